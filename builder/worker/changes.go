package worker

import (
	"cmp"
	"iter"
	"path"
	"slices"

	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

// changes is what a layer changes, in the order of a layer.
type changes struct {
	list  []tarball.Change
	bulks []*bulk // each has its place between two of the list
}

// bulk is very many files below a directory where nothing else is. They are kept as
// they were picked, as that takes little memory.
type bulk struct {
	root   string // where the match itself is
	from   match
	as     func(f file, path string) tarball.Change
	spread func() // sets the files one by one after all; until the dest ends
}

func (c *changes) len() int {
	n := len(c.list)
	for _, b := range c.bulks {
		n += b.from.files.n - 1
	}
	return n
}

// size is how many bytes the files have.
func (c *changes) size() int64 {
	var n int64
	for i := range c.list {
		n += c.list[i].Size
	}
	for _, b := range c.bulks {
		n += b.from.files.size
	}
	return n
}

// all gives the changes as packing and unpacking want them: without an error.
func (c *changes) all() iter.Seq2[tarball.Change, error] {
	return func(yield func(tarball.Change, error) bool) {
		rest := c.list
		before := func(b *index.Entry) bool {
			for ; len(rest) > 0 && (b == nil || index.ComparePaths(rest[0].Path, rest[0].Type, b.Path, b.Type) < 0); rest = rest[1:] {
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

// all gives the files below the root. Names of one file are hard links of the first.
func (b *bulk) all() iter.Seq[tarball.Change] {
	return func(yield func(tarball.Change) bool) {
		names := links{}
		for i, f := range b.from.files.all() {
			if i == 0 {
				continue
			}
			c := b.as(f, path.Join(b.root, b.from.rel(f)))
			if f.group != nil {
				names.tie(&c, f.group)
			}
			if !yield(c) {
				return
			}
		}
	}
}

// links has the first path of each group of files that are one.
type links map[any]string

// tie makes a hard link of a file unless it is the first of its group.
func (l links) tie(c *tarball.Change, group any) {
	if c.Type != index.TypeFile {
		return
	}
	to, ok := l[group]
	if !ok {
		l[group] = c.Path
		return
	}
	c.Type, c.Link, c.Open = index.TypeHardlink, to, nil
	c.Size, c.Digest, c.XAttrs = 0, "", nil
}

// sorted puts bulks into the order in which their files come.
func sorted(bulks []*bulk) []*bulk {
	slices.SortFunc(bulks, func(a, b *bulk) int { return cmp.Compare(a.root+"/", b.root+"/") })
	return bulks
}
