package worker

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/layer/index"
)

// TestBulk: very many files make the same changes, whether they are kept as they were
// picked or set one by one, and so does what is copied over them later.
func TestBulk(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		epoch := int64(draw.IntN(50))
		below := index.Empty().With(&index.Index{Entries: []index.Entry{
			{Path: "empty", Type: index.TypeDir, Mode: 0o700, MTime: 3}, {Path: "to", Type: index.TypeSymlink, Link: "empty"},
		}})
		all := drawn(draw, ".")
		target := []string{"new", "new/deep", "empty", "empty/a", "."}[draw.IntN(5)]
		if target == "." {
			below = index.Empty()
		}
		var more []match
		for range draw.IntN(3) {
			more = append(more, drawn(draw, "src"))
		}
		var got [2]string
		for k, copy := range []func(c *copier) error{
			func(c *copier) error { return c.bulk(all, target) },
			func(c *copier) error { return c.each(all, target, 0) },
		} {
			c := &copier{op: plan.Copy{Epoch: &epoch}, dst: newDest(below, &epoch)}
			c.look = look{chown: &[2]int{7, 8}, chmod: func(e index.Entry) uint32 { return e.Mode | 0o4 }}
			made := index.Entry{Type: index.TypeDir, Mode: 0o755, MTime: 40}
			if err := c.dst.mkdirs(path.Dir(target), made); err != nil {
				t.Fatal(err)
			}
			if !c.dst.vacant(target) {
				t.Fatalf("%s is not vacant", target)
			}
			if err := copy(c); err != nil {
				t.Fatal(err)
			}
			if all.files.n > 1 && (c.dst.vacant(target) || target != "." && c.dst.vacant(path.Dir(target))) {
				t.Fatalf("%s is vacant still", target)
			}
			for j, m := range more {
				at := []string{"beside", path.Join(target, "a"), path.Dir(target), "new.x"}[(i+j)%4]
				if err := c.each(m, at, 0); err != nil {
					got[k] += err.Error() + "\n"
				}
			}
			got[k] += told(t, c.dst.changes())
		}
		if d := cmp.Diff(got[0], got[1]); d != "" {
			t.Fatalf("round %d, to %s (-as picked +one by one):\n%s", i, target, d)
		}
	}
}

// drawn is a directory with files, directories, links and hard links.
func drawn(draw *rand.Rand, root string) match {
	entries := map[string]index.Entry{}
	var walk func(dir string, depth int)
	walk = func(dir string, depth int) {
		entries[dir] = index.Entry{Path: dir, Type: index.TypeDir, Mode: 0o750, MTime: int64(draw.IntN(100))}
		for range draw.IntN(5) {
			p := path.Join(dir, []string{"a", "b", "a.b", "a-b", "A"}[draw.IntN(5)])
			if _, ok := entries[p]; ok {
				continue
			}
			switch e := (index.Entry{Path: p, Mode: 0o640, MTime: int64(draw.IntN(100))}); draw.IntN(4) {
			case 0:
				e.Type, e.Link = index.TypeSymlink, "b"
				entries[p] = e
			case 1, 2:
				e.Type, e.Size = index.TypeFile, int64(draw.IntN(9))
				entries[p] = e
			default:
				if depth < 3 {
					walk(p, depth+1)
				}
			}
		}
	}
	walk(root, 0)
	var list []file
	for _, e := range entries {
		f := file{Entry: e}
		if e.Type == index.TypeFile && draw.IntN(3) == 0 {
			f.group = e.Size
		}
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b file) int { return index.Compare(a.Entry, b.Entry) })
	return match{name: path.Base(root), files: listed(list...), whole: true}
}

// told is changes as lines. They have to be in order, and as many as is said.
func told(t *testing.T, c changes) string {
	t.Helper()
	var b strings.Builder
	var last *index.Entry
	n := 0
	for ch := range c.all() {
		if last != nil && index.Compare(*last, ch.Entry) >= 0 {
			t.Errorf("%s comes after %s", ch.Path, last.Path)
		}
		last = &ch.Entry
		n++
		fmt.Fprintf(&b, "%+v\n", ch.Entry)
	}
	if n != c.len() {
		t.Errorf("%d changes are said to be %d", n, c.len())
	}
	return b.String()
}
