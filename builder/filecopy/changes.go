package filecopy

import (
	"cmp"
	"iter"
	"path"
	"slices"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Changes is the content of a layer, in the order of a layer.
type Changes struct {
	list  []tarball.Change
	bulks []*bulk // the files of each are consecutive in the layer
	close []func()

	reduced bool
}

// Reduced reports whether paths were left out because they are the same below. Such
// changes do not replace them over other layers.
func (c *Changes) Reduced() bool { return c.reduced }

// bulk is a directory with very many files at a path where nothing else is. Its files
// stay as they were selected, which takes little memory.
type bulk struct {
	root   string // the path of the match itself
	from   Match
	change func(f File, path string) tarball.Change
	expand func() // sets the files in the destination one by one
}

// Close releases the files that the changes are read from.
func (c *Changes) Close() {
	for _, f := range c.close {
		f()
	}
	c.close = nil
}

// Len returns the number of changes.
func (c *Changes) Len() int {
	n := len(c.list)
	for _, b := range c.bulks {
		n += b.from.files.n - 1
	}
	return n
}

// Size returns the total size of the regular files, in bytes.
func (c *Changes) Size() int64 {
	var n int64
	for i := range c.list {
		n += c.list[i].Size
	}
	for _, b := range c.bulks {
		n += b.from.files.size
	}
	return n
}

// All returns the changes with nil errors, as [tarball.Write] takes them.
func (c *Changes) All() iter.Seq2[tarball.Change, error] {
	return func(yield func(tarball.Change, error) bool) {
		rest := c.list
		before := func(b *listing.Entry) bool {
			for ; len(rest) > 0 && (b == nil || listing.ComparePaths(rest[0].Path, rest[0].Type, b.Path, b.Type) < 0); rest = rest[1:] {
				if !yield(rest[0], nil) {
					return false
				}
			}
			return true
		}
		for _, b := range c.bulks {
			for ch := range b.all() {
				if !before(&ch.Entry) || !yield(ch, nil) {
					return
				}
			}
		}
		before(nil)
	}
}

// all returns the files below the root. Further names of one file are hard links to
// the first.
func (b *bulk) all() iter.Seq[tarball.Change] {
	return func(yield func(tarball.Change) bool) {
		names := linkNames{}
		for i, f := range b.from.files.all() {
			if i == 0 {
				continue
			}
			c := b.change(f, path.Join(b.root, b.from.rel(f)))
			if f.group != nil {
				names.apply(&c, f.group)
			}
			if !yield(c) {
				return
			}
		}
	}
}

// linkNames maps each group of hard links to the path of its first file.
type linkNames map[any]string

// apply makes a file a hard link unless it is the first of its group.
func (l linkNames) apply(c *tarball.Change, group any) {
	if c.Type != listing.TypeFile {
		return
	}
	to, ok := l[group]
	if !ok {
		l[group] = c.Path
		return
	}
	c.Type, c.Link, c.Open = listing.TypeHardlink, to, nil
	c.Size, c.Digest, c.XAttrs = 0, "", nil
}

// sorted sorts bulks by the order of their files in a layer.
func sorted(bulks []*bulk) []*bulk {
	slices.SortFunc(bulks, func(a, b *bulk) int { return cmp.Compare(a.root+"/", b.root+"/") })
	return bulks
}
