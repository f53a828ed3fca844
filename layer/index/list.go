package index

import (
	"encoding/binary"
	"hash/crc32"
	"iter"
	"sort"
	"strings"
)

// chunkBytes is after how many encoded bytes a List begins a new chunk.
const chunkBytes = 32 << 10

// List is entries in little memory, as an index encodes them: a quarter of what
// an Index takes. It only grows. It is read in the order in which entries were
// added; nothing must be added meanwhile. Digests that are not SHA-256 are lost.
type List struct {
	chunks []chunk
	n      int
	last   Entry
}

// chunk is some entries that can be read without those before.
type chunk struct {
	first string // path
	n     int
	body  []byte
}

// Add appends an entry. The list keeps no part of it but the last one's.
func (l *List) Add(e *Entry) {
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

// Len is how many entries there are.
func (l *List) Len() int { return l.n }

// Last is the entry that was added last; nil if there is none.
func (l *List) Last() *Entry {
	if l.n == 0 {
		return nil
	}
	return &l.last
}

// All gives all entries, which are the caller's.
func (l *List) All() iter.Seq[*Entry] {
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
			panic("index: a list that cannot be read: " + d.err.Error())
		}
		if !yield(e) {
			return false
		}
		previous = e
	}
	return true
}

// Find gives the entry for a path that ok accepts, in a list in the order of
// Compare; nil if there is none.
func (l *List) Find(path string, ok func(*Entry) bool) (found *Entry) {
	after := sort.Search(len(l.chunks), func(i int) bool {
		return ComparePaths(l.chunks[i].first, TypeFile, path, TypeFile) >= 0
	})
	// The path may be the last of the chunk before and the first of this one.
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

// Index is the list as an index.
func (l *List) Index() *Index {
	x := &Index{Entries: make([]Entry, 0, l.n)}
	for e := range l.All() {
		x.Entries = append(x.Entries, *e)
	}
	return x
}

// Encode returns the list, in the order of Compare, as bytes for Decode.
func (l *List) Encode() []byte {
	size := 0
	for i := range l.chunks {
		size += len(l.chunks[i].body)
	}
	return encode(l.n, size, l.All())
}

// encode is of n entries that take about size bytes.
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
