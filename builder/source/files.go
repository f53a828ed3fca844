package source

import (
	"encoding/binary"
	"iter"

	"github.com/cairn-build/cairn/layer/index"
)

// Files is some of what a walk found, in little memory: a fifth of what a slice
// takes. Paths of the files must be those they were found at.
type Files struct {
	dir     *Dir
	entries index.List
	more    []byte // of each: flags, and what they say follows; numbers less those before
	last    stamp
}

const (
	moreLead  = 1 << iota
	moreAttrs // it has attributes that are kept
	moreIdent // it has an Ident, that of its stamp
	moreStamp // varint size, mtime, ctime, inode, device; of what can be read or has an Ident
)

// Add appends a file.
func (l *Files) Add(f *File) {
	var flags byte
	set := func(bit byte, is bool) {
		if is {
			flags |= bit
		}
	}
	set(moreLead, f.Lead)
	set(moreAttrs, f.attrs)
	set(moreIdent, f.Ident != Ident{})
	set(moreStamp, f.stamp != stamp{} && (f.Type == index.TypeFile || f.Ident != Ident{}))
	l.dir = f.dir
	l.entries.Add(&f.Entry)
	l.more = append(l.more, flags)
	if flags&moreStamp == 0 {
		return
	}
	for _, n := range []int64{
		f.stamp.size, f.stamp.mtime - l.last.mtime, f.stamp.ctime - l.last.ctime,
		int64(f.stamp.ino - l.last.ino), int64(f.stamp.dev - l.last.dev),
	} {
		l.more = binary.AppendVarint(l.more, n)
	}
	l.last = f.stamp
}

// Len is how many there are.
func (l *Files) Len() int { return l.entries.Len() }

// All gives the files as they were added. Nothing must be added meanwhile.
func (l *Files) All() iter.Seq[File] {
	return func(yield func(File) bool) {
		more, last := l.more, stamp{}
		number := func() int64 {
			v, n := binary.Varint(more)
			more = more[n:]
			return v
		}
		for e := range l.entries.All() {
			flags := more[0]
			more = more[1:]
			f := File{Entry: *e, Lead: flags&moreLead != 0, attrs: flags&moreAttrs != 0, content: content{dir: l.dir, path: e.Path}}
			if flags&moreStamp != 0 {
				f.stamp = stamp{
					size: number(), mtime: last.mtime + number(), ctime: last.ctime + number(),
					ino: last.ino + uint64(number()), dev: last.dev + uint64(number()),
				}
				last = f.stamp
			}
			if flags&moreIdent != 0 {
				f.Ident = Ident{Dev: f.stamp.dev, Ino: f.stamp.ino}
			}
			if !yield(f) {
				return
			}
		}
	}
}
