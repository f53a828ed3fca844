package source

import (
	"encoding/binary"
	"iter"

	"github.com/cairn-build/cairn/layer/listing"
)

// Files is a list of files in a compact form, which takes a fifth of the memory of a
// slice. The paths of the files must be those at which they were found.
type Files struct {
	dir     *Dir
	entries listing.Packed
	more    []byte // per file: flags and the fields that they announce, as differences from the previous ones
	last    stamp
}

const (
	moreLead  = 1 << iota
	moreAttrs // it has extended attributes that are kept
	moreIdent // it has an Ident, which is that of its stamp
	moreStamp // varint size, mtime, ctime, inode, device; for regular files and those with an Ident
	moreTime  // varint mtime, of others if it is not in whole seconds
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
	set(moreStamp, f.stamp != stamp{} && (f.Type == listing.TypeFile || f.Ident != Ident{}))
	set(moreTime, flags&moreStamp == 0 && f.stamp.mtime%1e9 != 0)
	l.dir = f.dir
	l.entries.Add(&f.Entry)
	l.more = append(l.more, flags)
	if flags&moreTime != 0 {
		l.more = binary.AppendVarint(l.more, f.stamp.mtime-l.last.mtime)
		l.last.mtime = f.stamp.mtime
	}
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

// Len returns the number of files.
func (l *Files) Len() int { return l.entries.Len() }

// All returns the files in the order in which they were added. No file may be added
// during the iteration.
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
			if flags&moreTime != 0 {
				last.mtime += number()
				f.stamp.mtime = last.mtime
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
