package filecopy

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer/listing"
)

// TestBulk checks that a bulk makes the same changes as its files one by one, with later
// copies over them too.
func TestBulk(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		epoch := int64(draw.IntN(50))
		below := listing.Empty().WithLayer(&listing.Listing{Entries: []listing.Entry{
			{Path: "empty", Type: listing.TypeDir, Mode: 0o700, MTime: 3}, {Path: "to", Type: listing.TypeSymlink, Link: "empty"},
		}})
		all := randomDir(draw, ".")
		target := []string{"new", "new/deep", "empty", "empty/a", "."}[draw.IntN(5)]
		if target == "." {
			below = listing.Empty()
		}
		var more []Match
		for range draw.IntN(3) {
			more = append(more, randomDir(draw, "src"))
		}
		var got [2]string
		for k, do := range []func(c *Copier) error{
			func(c *Copier) error { return c.copyBulk(all, target) },
			func(c *Copier) error { return c.copyEach(all, target, 0) },
		} {
			c := &Copier{Op: op.Copy{Epoch: &epoch}, dst: newDestination(Tree{View: below}, &epoch)}
			c.attrs = attributes{chown: &[2]int{7, 8}, chmod: func(e listing.Entry) uint32 { return e.Mode | 0o4 }}
			made := listing.Entry{Type: listing.TypeDir, Mode: 0o755, MTime: 40}
			if err := c.dst.mkdirs(path.Dir(target), made); err != nil {
				t.Fatal(err)
			}
			if !c.dst.isFree(target) {
				t.Fatalf("%s is not free", target)
			}
			if err := do(c); err != nil {
				t.Fatal(err)
			}
			if all.files.n > 1 && (c.dst.isFree(target) || target != "." && c.dst.isFree(path.Dir(target))) {
				t.Fatalf("%s is still free", target)
			}
			for j, m := range more {
				at := []string{"beside", path.Join(target, "a"), path.Dir(target), "new.x"}[(i+j)%4]
				if err := c.copyEach(m, at, 0); err != nil {
					got[k] += err.Error() + "\n"
				}
			}
			changes, err := c.dst.changes()
			if err != nil {
				t.Fatal(err)
			}
			got[k] += lines(t, changes)
		}
		if d := cmp.Diff(got[0], got[1]); d != "" {
			t.Fatalf("round %d, to %s (-as a bulk +one by one):\n%s", i, target, d)
		}
	}
}

// randomDir returns a directory with files, directories, links and hard links.
func randomDir(draw *rand.Rand, root string) Match {
	entries := map[string]listing.Entry{}
	var walk func(dir string, depth int)
	walk = func(dir string, depth int) {
		entries[dir] = listing.Entry{Path: dir, Type: listing.TypeDir, Mode: 0o750, MTime: int64(draw.IntN(100))}
		for range draw.IntN(5) {
			p := path.Join(dir, []string{"a", "b", "a.b", "a-b", "A"}[draw.IntN(5)])
			if _, ok := entries[p]; ok {
				continue
			}
			switch e := (listing.Entry{Path: p, Mode: 0o640, MTime: int64(draw.IntN(100))}); draw.IntN(4) {
			case 0:
				e.Type, e.Link = listing.TypeSymlink, "b"
				entries[p] = e
			case 1, 2:
				e.Type, e.Size = listing.TypeFile, int64(draw.IntN(9))
				entries[p] = e
			default:
				if depth < 3 {
					walk(p, depth+1)
				}
			}
		}
	}
	walk(root, 0)
	var list []File
	for _, e := range entries {
		f := File{Entry: e}
		if e.Type == listing.TypeFile && draw.IntN(3) == 0 {
			f.group = e.Size
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b File) int { return listing.Compare(a.Entry, b.Entry) })
	return Match{name: path.Base(root), files: listOf(list...), whole: true}
}

// lines formats changes, and checks their order and number.
func lines(t *testing.T, c *Changes) string {
	t.Helper()
	var b strings.Builder
	var last *listing.Entry
	n := 0
	for ch := range c.All() {
		if last != nil && listing.Compare(*last, ch.Entry) >= 0 {
			t.Errorf("%s comes after %s", ch.Path, last.Path)
		}
		last = &ch.Entry
		n++
		fmt.Fprintf(&b, "%+v\n", ch.Entry)
	}
	if n != c.Len() {
		t.Errorf("%d changes, Len is %d", n, c.Len())
	}
	return b.String()
}
