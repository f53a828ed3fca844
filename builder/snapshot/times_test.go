package snapshot

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// exact gives a change an exact time on disk.
func exact(c tarball.Change, at time.Time) tarball.Change {
	c.Time = func() time.Time { return at }
	return c
}

// TestExactTimes checks that the tree of a layer that a step made has exact times, whether
// it is made from the changes or from the blob, in this build or another, and that the
// same layer of an image has its own.
func TestExactTimes(t *testing.T) {
	s := openStore(t)
	at := time.Unix(2_000_000_000, 123_456_789)
	link := tarball.Change{Entry: listing.Entry{Path: "d/link", Type: listing.TypeSymlink, Link: "f"}}
	add := func(m *Manager, text string) *Stack {
		return m.Empty().Add(NewLayer{Changes: DiffChanges{exact(dir("d"), at), exact(file("d/f", text), at), exact(link, at)}})
	}
	verify := func(what string, stack *Stack, want time.Time) {
		t.Helper()
		dirs, err := stack.Trees(t.Context())
		must(t, err)
		view, err := stack.FullView(t.Context())
		must(t, err)
		for _, p := range []string{"d", "d/f", "d/link"} {
			info, err := os.Lstat(filepath.Join(dirs[0], p))
			must(t, err)
			if !info.ModTime().Equal(want) {
				t.Errorf("%s: %s has the time %v on disk", what, p, info.ModTime())
			}
			n, _ := view.Lookup(p)
			if got, ok := stack.Time(n); ok && !got.Equal(want) || ok != !stack.Top().Created().IsZero() {
				t.Errorf("%s: %s has the time %v, %v", what, p, got, ok)
			}
		}
		n, _ := view.Lookup("d/f")
		f, err := stack.Open(n)
		must(t, err)
		defer f.Close()
		if got, err := f.(tarball.Timed).ModTime(); err != nil || !got.Equal(want) {
			t.Errorf("%s: the open file has the time %v, %v", what, got, err)
		}
	}
	m := newManager(t, newBlobs(), s)
	verify("from the changes", add(m, "1"), at)

	stack := add(m, "2")
	<-stack.Top().settled // the changes are gone
	view, err := stack.FullView(t.Context())
	must(t, err)
	for _, p := range []string{"d", "d/link"} {
		n, _ := view.Lookup(p)
		if got, ok := stack.Time(n); !ok || !got.Equal(at) || stack.Top().tree != "" {
			t.Errorf("without a tree: %s has the time %v, %v", p, got, ok)
		}
	}
	verify("from the blob", stack, at)
	must(t, m.Wait())

	b, created := stack.Top().blob, stack.Top().Created()
	again := newManager(t, newBlobs(), s)
	verify("from the store", again.Empty().With(again.Stored(b, created)), at)
	verify("in an image", again.Image([]layer.Descriptor{b}, "", nil), time.Unix(0, 0))
	verify("of another run", again.Empty().With(again.Stored(b, created.Add(1))), time.Unix(0, 0))
}

// TestMaterializeFromTree checks that a copy has the exact times of files in another tree.
func TestMaterializeFromTree(t *testing.T) {
	s := openStore(t)
	m := newManager(t, newBlobs(), s)
	at := time.Unix(2_000_000_000, 5)
	from := m.Empty().Add(NewLayer{Changes: DiffChanges{exact(file("f", "text"), at)}})
	view, err := from.FullView(t.Context())
	must(t, err)
	n, _ := view.Lookup("f")
	c := tarball.Change{Entry: n.Entry, Open: func() (io.ReadCloser, error) { return from.Open(n) }}
	dirs, err := m.Empty().Add(NewLayer{Changes: DiffChanges{c}}).Trees(t.Context())
	must(t, err)
	if info, err := os.Lstat(filepath.Join(dirs[0], "f")); err != nil || !info.ModTime().Equal(at) {
		t.Errorf("%v, %v", info, err)
	}
	must(t, m.Wait())
}
