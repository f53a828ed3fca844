package snapshot

import (
	"context"
	"io"
	"io/fs"
	"slices"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Squash returns a stack with the same tree, of the lowest base layers of s and one layer
// more. It returns s if there is nothing to merge.
func (s *Stack) Squash(ctx context.Context, base int, name string) (*Stack, error) {
	if s.depth <= base+1 {
		return s, nil
	}
	below := s
	for below.depth > base {
		below = below.below
	}
	changes, err := s.changesSince(ctx, below)
	if err != nil {
		return nil, err
	}
	return below.Add(NewLayer{Changes: changes, Name: name, Lane: name, Exported: true}), nil
}

// changesSince returns the changes that make the tree of s of that of a stack below it.
func (s *Stack) changesSince(ctx context.Context, below *Stack) (DiffChanges, error) {
	before, err := below.FullView(ctx)
	if err != nil {
		return nil, err
	}
	after, err := s.FullView(ctx)
	if err != nil {
		return nil, err
	}
	d := &squash{stack: s, after: after, has: map[string]bool{}}
	err = after.Walk(".", func(n listing.Node) error {
		if n.Layer >= below.depth {
			d.add(n)
		}
		return nil
	})
	if err == nil {
		err = before.Walk(".", d.removed)
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(d.changes, func(a, b tarball.Change) int { return listing.Compare(a.Entry, b.Entry) })
	d.link()
	return d.changes, nil
}

// squash collects the changes of several layers.
type squash struct {
	stack   *Stack
	after   *listing.View
	changes DiffChanges
	has     map[string]bool // paths of changes that are not whiteouts
}

// add adds a path and the directories that it is in.
func (d *squash) add(n listing.Node) {
	if d.has[n.Path] {
		return
	}
	d.has[n.Path] = true
	d.addParents(n.Path)
	c := tarball.Change{Entry: n.Entry}
	c.Content = nil
	if n.Type == listing.TypeFile || n.Type == listing.TypeHardlink {
		c.Type, c.Link = listing.TypeFile, ""
		c.Open = func() (io.ReadCloser, error) { return d.stack.Open(n) }
	}
	d.changes = append(d.changes, c)
}

// addParents adds the directories that a path is in, without the root: a layer has it
// only if it changed.
func (d *squash) addParents(path string) {
	for dir := listing.Dir(path); dir != "."; dir = listing.Dir(dir) {
		if n, ok := d.after.Lookup(dir); ok {
			d.add(n)
		}
	}
}

// removed adds a whiteout for a path of the tree before that is gone. Paths below it need
// none.
func (d *squash) removed(n listing.Node) error {
	now, ok := d.after.Lookup(n.Path)
	switch {
	case !ok:
		d.addParents(n.Path)
		d.changes = append(d.changes, tarball.Change{Entry: listing.Entry{Path: n.Path, Type: listing.TypeWhiteout}})
		return fs.SkipDir
	case n.Type == listing.TypeDir && now.Type != listing.TypeDir:
		return fs.SkipDir
	}
	return nil
}

// link turns files with the same data into hard links to the first of them.
func (d *squash) link() {
	type data struct {
		layer int
		path  string
	}
	first := map[data]string{}
	for i := range d.changes {
		c := &d.changes[i]
		if c.Type != listing.TypeFile {
			continue
		}
		n, _ := d.after.Lookup(c.Path)
		id := data{n.Layer, n.TreePath}
		if target, ok := first[id]; ok {
			c.Type, c.Link, c.Size, c.Digest, c.Open = listing.TypeHardlink, target, 0, "", nil
		} else {
			first[id] = c.Path
		}
	}
}
