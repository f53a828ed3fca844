package imagediff

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// pieceBytes is the approximate size of the part of a listing in memory.
const pieceBytes = 4 << 20

// listing is a list of the entries of a tar, sorted by path in pieces. All pieces
// but the last are in files.
type listing struct {
	dir    string
	n      int // number of entries
	items  []item
	bytes  int
	pieces []*os.File
}

func newListing(dir string) *listing { return &listing{dir: dir} }

func (l *listing) add(it item) error {
	l.n++
	it.Number = l.n
	l.items = append(l.items, it)
	l.bytes += len(it.Path) + 200
	for k, v := range it.Says {
		l.bytes += len(k) + len(v) + 50
	}
	if l.bytes < pieceBytes {
		return nil
	}
	return l.spill()
}

func (l *listing) sort() {
	slices.SortFunc(l.items, func(a, b item) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Number, b.Number)) })
}

// spill writes the piece in memory to an unlinked file.
func (l *listing) spill() error {
	l.sort()
	f, err := os.CreateTemp(l.dir, "listing-*")
	if err != nil {
		return err
	}
	l.pieces = append(l.pieces, f)
	err = os.Remove(f.Name())
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	for _, it := range l.items {
		err = errors.Join(err, e.Encode(it))
	}
	if err = errors.Join(err, w.Flush()); err != nil {
		return fmt.Errorf("write a temporary listing: %w", err)
	}
	l.items, l.bytes = l.items[:0], 0
	return nil
}

func (l *listing) close() {
	for _, f := range l.pieces {
		_ = f.Close() // this removes it
	}
}

// read returns a reader of the entries, sorted by path.
func (l *listing) read() (*reader, error) {
	l.sort()
	r := &reader{first: true}
	for i, f := range l.pieces {
		d := json.NewDecoder(bufio.NewReader(io.NewSectionReader(f, 0, 1<<62)))
		if err := r.source(i, func() (it item, err error) { err = d.Decode(&it); return it, err }); err != nil {
			return nil, err
		}
	}
	rest := l.items
	err := r.source(len(l.pieces), func() (it item, err error) {
		if len(rest) == 0 {
			return it, io.EOF
		}
		it, rest = rest[0], rest[1:]
		return it, nil
	})
	heap.Init(r)
	return r, err
}

// reader merges the pieces of a listing.
type reader struct {
	heads []head
	first bool // nothing was read yet
	last  string
	again int
}

type head struct {
	item
	piece int
	next  func() (item, error)
}

func (r *reader) source(piece int, next func() (item, error)) error {
	it, err := next()
	if err == io.EOF {
		return nil
	}
	r.heads = append(r.heads, head{it, piece, next})
	return err
}

// next returns the next entry, and io.EOF at the end.
func (r *reader) next() (*item, error) {
	if len(r.heads) == 0 {
		return nil, io.EOF
	}
	it := r.heads[0].item
	following, err := r.heads[0].next()
	switch err {
	case nil:
		r.heads[0].item = following
		heap.Fix(r, 0)
	case io.EOF:
		heap.Pop(r)
	default:
		return nil, err
	}
	if r.again++; r.first || it.Path != r.last {
		r.again = 0
	}
	r.first, r.last, it.Again = false, it.Path, r.again
	return &it, nil
}

func (r *reader) Len() int      { return len(r.heads) }
func (r *reader) Swap(i, j int) { r.heads[i], r.heads[j] = r.heads[j], r.heads[i] }
func (r *reader) Push(x any)    { r.heads = append(r.heads, x.(head)) }
func (r *reader) Less(i, j int) bool {
	a, b := r.heads[i], r.heads[j]
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Number, b.Number)) < 0
}

func (r *reader) Pop() any {
	last := r.heads[len(r.heads)-1]
	r.heads = r.heads[:len(r.heads)-1]
	return last
}

// merged reads two listings in parallel.
type merged struct {
	a, b *reader
	x, y *item
}

func merge(a, b *listing) (*merged, error) {
	m := &merged{}
	var err error
	if m.a, err = a.read(); err != nil {
		return nil, err
	}
	if m.b, err = b.read(); err != nil {
		return nil, err
	}
	if err := m.fetch(&m.x, m.a); err != nil {
		return nil, err
	}
	return m, m.fetch(&m.y, m.b)
}

func (m *merged) fetch(to **item, from *reader) (err error) {
	*to, err = from.next()
	if err == io.EOF {
		*to, err = nil, nil
	}
	return err
}

// next returns the entries of both for the next path; nil for a missing one.
func (m *merged) next() (x, y *item, err error) {
	x, y = m.x, m.y
	switch {
	case x == nil && y == nil:
		return nil, nil, io.EOF
	case x == nil:
	case y == nil:
	default:
		switch c := cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.Again, y.Again)); {
		case c < 0:
			y = nil
		case c > 0:
			x = nil
		}
	}
	if x != nil {
		err = m.fetch(&m.x, m.a)
	}
	if y != nil && err == nil {
		err = m.fetch(&m.y, m.b)
	}
	return x, y, err
}

// order detects whether the entries that both have come in the same order.
type order struct{ numbers [][2]uint32 }

func (o *order) add(a, b int) { o.numbers = append(o.numbers, [2]uint32{uint32(a), uint32(b)}) }

// report reports the first entry of A that comes later in B than one that follows it
// in A.
func (o *order) report(at part, a *listing) error {
	slices.SortFunc(o.numbers, func(x, y [2]uint32) int { return cmp.Compare(x[0], y[0]) })
	for i := 1; i < len(o.numbers); i++ {
		if before, now := o.numbers[i-1], o.numbers[i]; before[1] > now[1] {
			names, err := a.names(int(before[0]), int(now[0]))
			if err != nil {
				return err
			}
			return at.emit("order", fmt.Sprintf("/%s before /%s", names[0], names[1]), fmt.Sprintf("/%s before /%s", names[1], names[0]))
		}
	}
	return nil
}

// names returns the paths of two entries.
func (l *listing) names(i, j int) (names [2]string, err error) {
	r, err := l.read()
	for err == nil {
		var it *item
		if it, err = r.next(); err == nil && it.Number == i {
			names[0] = it.Path
		} else if err == nil && it.Number == j {
			names[1] = it.Path
		}
	}
	if err == io.EOF {
		err = nil
	}
	return names, err
}
