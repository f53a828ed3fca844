package listing

import (
	"encoding/binary"
	"hash/crc32"
	"iter"
	"sort"
	"strings"
)

// chunkBytes is the encoded size after which a Packed starts a new chunk.
const chunkBytes = 32 << 10

// Packed is an append-only listing in its encoded form, which takes a quarter of the
// memory of a Listing. Entries are read in the order of Add, which must not be
// called meanwhile. Digests other than SHA-256 are lost.
type Packed struct {
	chunks []chunk
	n      int
	last   Entry
}

// chunk is a run of entries that can be decoded by itself.
type chunk struct {
	first string // path
	n     int
	body  []byte
}

// Add appends an entry. It must not be changed until the next call.
func (l *Packed) Add(e *Entry) {
	if n := len(l.chunks); n == 0 || len(l.chunks[n-1].body) >= chunkBytes {
		l.chunks = append(l.chunks, chunk{first: strings.Clone(e.Path)})
		l.last = Entry{}
	}
	c := &l.chunks[len(l.chunks)-1]
	c.body = appendEntry(c.body, e, &l.last)
	c.n++
	l.n++
	l.last = *e
}

// Len returns the number of entries.
func (l *Packed) Len() int { return l.n }

// Last returns the last entry, or nil if there is none.
func (l *Packed) Last() *Entry {
	if l.n == 0 {
		return nil
	}
	return &l.last
}

// All returns an iterator over the entries. The caller may keep them.
func (l *Packed) All() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for i := range l.chunks {
			if !l.chunks[i].all(yield) {
				return
			}
		}
	}
}

func (c *chunk) all(yield func(*Entry) bool) bool {
	d := decoder{rest: c.body}
	previous := &Entry{}
	for range c.n {
		e := &Entry{}
		d.entry(e, previous)
		if d.err != nil {
			panic("listing: cannot decode a Packed: " + d.err.Error())
		}
		if !yield(e) {
			return false
		}
		previous = e
	}
	return true
}

// Find returns the entry for path that ok accepts, or nil. The list must be in the
// order of Compare.
func (l *Packed) Find(path string, ok func(*Entry) bool) (found *Entry) {
	after := sort.Search(len(l.chunks), func(i int) bool {
		return ComparePaths(l.chunks[i].first, TypeFile, path, TypeFile) >= 0
	})
	// The path may be in the last entry of a chunk and the first of the next.
	for i := max(after-1, 0); i <= after && i < len(l.chunks) && found == nil; i++ {
		l.chunks[i].all(func(e *Entry) bool {
			if e.Path == path && ok(e) {
				found = e
			}
			return found == nil && ComparePaths(e.Path, TypeFile, path, TypeFile) <= 0
		})
	}
	return found
}

// Unpack returns the entries as a Listing.
func (l *Packed) Unpack() *Listing {
	x := &Listing{Entries: make([]Entry, 0, l.n)}
	for e := range l.All() {
		x.Entries = append(x.Entries, *e)
	}
	return x
}

// Encode returns the list, which must be in the order of Compare, as bytes for
// Decode.
func (l *Packed) Encode() []byte {
	size := 0
	for i := range l.chunks {
		size += len(l.chunks[i].body)
	}
	return encode(l.n, size, l.All())
}

// encode encodes n entries, which take about size bytes.
func encode(n, size int, entries iter.Seq[*Entry]) []byte {
	b := make([]byte, len(magic)+4, len(magic)+4+binary.MaxVarintLen64+size)
	copy(b, magic)
	b = binary.AppendUvarint(b, uint64(n))
	previous := &Entry{}
	for e := range entries {
		b = appendEntry(b, e, previous)
		previous = e
	}
	body := b[len(magic)+4:]
	binary.LittleEndian.PutUint32(b[len(magic):], crc32.Checksum(body, castagnoli))
	return b
}
