package filecopy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"slices"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer/listing"
)

// digest hashes the matches of a selection: each name, type, mode, owner, extended
// attribute, link and content, without those that the copy replaces. A path without a
// match counts as such.
func digest(sel op.Selection, paths [][]Match) string {
	d := digester{h: sha256.New(), sel: sel}
	for _, ms := range paths {
		d.number(int64(len(ms)))
		for _, m := range ms {
			d.text(m.name)
			d.number(int64(m.files.n))
			groups := map[any]int64{}
			for i, f := range m.files.all() {
				d.text(m.rel(f))
				d.entry(f)
				d.group(groups, f, int64(i))
			}
		}
	}
	return hex.EncodeToString(d.h.Sum(nil))
}

type digester struct {
	h   hash.Hash
	sel op.Selection
}

func (d digester) number(n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	d.h.Write(b[:])
}

func (d digester) text(s string) {
	d.number(int64(len(s)))
	d.h.Write([]byte(s))
}

func (d digester) entry(f File) {
	e := f.Entry
	d.number(int64(e.Type))
	if !d.sel.AnyMode || f.lead || e.Type == listing.TypeSymlink {
		d.number(int64(e.Mode))
	}
	if !d.sel.AnyOwner {
		d.number(int64(e.UID))
		d.number(int64(e.GID))
	}
	d.text(e.Link)
	d.number(int64(e.Major)<<32 | int64(e.Minor))
	d.text(string(e.Digest))
	d.number(int64(len(e.XAttrs)))
	for _, k := range slices.Sorted(maps.Keys(e.XAttrs)) {
		d.text(k)
		d.text(e.XAttrs[k])
	}
	if d.sel.Epoch != nil {
		d.number(min(e.MTime, *d.sel.Epoch))
	}
}

// group adds the index of the first file that f, the i-th file of its match, is a hard
// link to.
func (d digester) group(seen map[any]int64, f File, i int64) {
	if f.group == nil || f.Type != listing.TypeFile {
		return
	}
	if first, ok := seen[f.group]; ok {
		d.number(first)
		return
	}
	seen[f.group] = i
}
