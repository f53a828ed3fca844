package snapshot

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// TestSaveOrigins checks that the origins of layers are stored without fetching them.
func TestSaveOrigins(t *testing.T) {
	r, s := newBlobs(), openStore(t)
	b := r.pack(t, file("a", "text"))
	m := newManager(t, r, s)
	if err := m.Image([]layer.Descriptor{b}, "example/image", nil).SaveOrigins(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored := newManager(t, r, s).StoredImage(layer.Image{Layers: []layer.Descriptor{b}}, "other/name")
	if r.count(b) != 0 || stored.Top().Ref() != "example/image" {
		t.Errorf("%d fetches, from %q", r.count(b), stored.Top().Ref())
	}
}

// TestFlatten checks the whole tree of a stack, with hard links.
func TestFlatten(t *testing.T) {
	m := newManager(t, newBlobs(), openStore(t))
	link := tarball.Change{Entry: listing.Entry{Path: "b", Type: listing.TypeHardlink, Link: "a"}}
	stack := m.Empty().Add(NewLayer{Changes: DiffChanges{file("a", "text"), link, file("c", "old")}}).
		WithStack(m.Empty().Add(NewLayer{Changes: DiffChanges{file("c", "new")}}))
	changes, err := stack.Flatten(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for c, err := range changes {
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		if c.Open != nil {
			r, err := c.Open()
			if err != nil {
				t.Fatal(err)
			}
			content, _ := io.ReadAll(r)
			r.Close()
			text = string(content)
		}
		fmt.Fprintf(&got, "%s>%s=%s ", c.Path, c.Link, text)
	}
	if want := ".>= a>=text b>a= c>=new "; got.String() != want {
		t.Errorf("%q, want %q", got.String(), want)
	}
	v, _ := stack.FullView(t.Context())
	n, _ := v.Lookup("c")
	dirs, _ := stack.Trees(t.Context())
	if err := os.Remove(filepath.Join(dirs[0], "c")); err != nil {
		t.Fatal(err)
	}
	if _, err := stack.Open(n); err == nil || !strings.Contains(err.Error(), "cairn check --repair") {
		t.Errorf("a file that was removed from a tree: %v", err)
	}
	if err := m.Wait(); err != nil {
		t.Error(err)
	}
}

// TestTallStack checks that a tall stack is mounted from merged trees.
func TestTallStack(t *testing.T) {
	m := newManager(t, newBlobs(), openStore(t))
	stack := m.Empty()
	for i := range 3*runLength + 1 {
		stack = stack.Add(NewLayer{Changes: DiffChanges{file(fmt.Sprintf("f%03d", i), "text")}})
	}
	if err := m.Wait(); err != nil {
		t.Fatal(err)
	}
	dirs, err := stack.Trees(t.Context())
	if err != nil || len(dirs) != 2+runLength+1 {
		t.Fatalf("%d trees, %v", len(dirs), err)
	}
	for i, dir := range map[int]string{0: dirs[len(dirs)-1], runLength: dirs[len(dirs)-2]} {
		names, err := os.ReadDir(dir)
		if err != nil || len(names) != runLength || names[0].Name() != fmt.Sprintf("f%03d", i) {
			t.Errorf("run from %d: %d files, %v", i, len(names), err)
		}
	}
	again, err := stack.Trees(t.Context())
	if err != nil || len(again) != len(dirs) || again[len(again)-1] != dirs[len(dirs)-1] {
		t.Errorf("the second time: %d trees, %v", len(again), err)
	}
}

// TestPlainTrees checks which plain tree serves a stack.
func TestPlainTrees(t *testing.T) {
	m := newManager(t, newBlobs(), nil)
	a := m.Empty().With(&Layer{})
	b := a.With(&Layer{})
	c := b.With(&Layer{})
	p := &plainTree{}
	m.plain.put(a, nil)
	m.plain.put(b, p)
	if got, _ := m.plain.take(a, 1); got != nil {
		t.Error("a tree with more layers was taken")
	}
	if got, _ := m.plain.take(c, 1); got != nil {
		t.Error("a tree below the limit was taken")
	}
	if got, above := m.plain.take(c, 3); got != p || above != 1 {
		t.Errorf("%v, %d", got, above)
	}
	if got, _ := m.plain.take(c, 3); got != nil {
		t.Error("a tree was taken twice")
	}
}
