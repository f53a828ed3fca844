package filecopy

import (
	"maps"
	"path"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// unchanged returns the paths whose changes are equal to the entries of the tree below.
// If a file has several names, either all of them are unchanged or none is.
func (d *destination) unchanged() (map[string]bool, error) {
	same := map[string]bool{}
	type group struct {
		names   []string
		data    [2]any // of all names below
		changed bool
	}
	groups := map[any]*group{}
	for i := range d.list {
		c := &d.list[i]
		if at, ok := d.index[c.Path]; !ok || at != i {
			continue
		}
		n, ok, err := d.unchangedAt(c)
		if err != nil {
			return nil, err
		}
		if ok {
			same[c.Path] = true
		}
		id, linked := d.group[c.Path]
		if !linked {
			continue
		}
		data := [2]any{n.Layer, n.TreePath}
		g := groups[id]
		if g == nil {
			g = &group{data: data}
			groups[id] = g
		}
		g.names = append(g.names, c.Path)
		g.changed = g.changed || !ok || g.data != data
	}
	for _, g := range groups {
		for _, p := range g.names {
			if g.changed {
				delete(same, p)
			}
		}
	}
	return same, nil
}

// unchangedAt reports whether the path of a change is the same below, in the layers of an
// image: directories without regard to their times, which follow from their content. It
// returns the node below.
func (d *destination) unchangedAt(c *tarball.Change) (n listing.Node, ok bool, err error) {
	if d.isGone(c.Path) {
		return n, false, nil
	}
	if n, ok = d.View.Lookup(c.Path); !ok {
		return n, false, nil
	}
	if n.Type == listing.TypeHardlink {
		n.Type, n.Link = listing.TypeFile, ""
	}
	switch {
	case n.Type != c.Type || n.UID != c.UID || n.GID != c.GID || !maps.Equal(n.XAttrs, c.XAttrs):
		return n, false, nil
	case c.Type == listing.TypeSymlink:
		return n, n.Link == c.Link && n.MTime == c.MTime, nil
	case n.Mode != c.Mode:
		return n, false, nil
	case c.Type == listing.TypeDir:
		return n, true, nil
	case n.MTime != c.MTime || n.Size != c.Size || n.Major != c.Major || n.Minor != c.Minor:
		return n, false, nil
	case c.Type != listing.TypeFile || c.Size == 0:
		return n, true, nil
	}
	below, err := d.digest(n)
	return n, below != "" && below == c.Digest, err
}

// isGone reports whether a path is hidden below, because it or a directory that leads to
// it was replaced.
func (d *destination) isGone(p string) bool {
	if len(d.gone) == 0 {
		return false
	}
	for ; p != "."; p = path.Dir(p) {
		if d.gone[p] {
			return true
		}
	}
	return false
}

// digest returns the digest of a file below. Only a file of a layer that is still being
// written is not known by it.
func (d *destination) digest(n listing.Node) (layer.Digest, error) {
	if n.Digest != "" || d.Digest == nil {
		return n.Digest, nil
	}
	return d.Digest(n)
}
