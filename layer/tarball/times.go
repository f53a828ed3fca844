package tarball

import (
	"encoding/binary"
	"iter"
	"time"
)

// Times has the exact mtimes of the entries of a tar, in their order, which the tar has
// in whole seconds.
type Times struct {
	b    []byte // per entry: varint seconds, less the previous; uvarint nanoseconds
	last int64
}

func (t *Times) add(at time.Time) {
	sec := at.Unix()
	t.b = binary.AppendVarint(t.b, sec-t.last)
	t.b = binary.AppendUvarint(t.b, uint64(at.Nanosecond()))
	t.last = sec
}

// All returns an iterator over the times.
func (t *Times) All() iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		for r := t.reader(); len(r.b) > 0; {
			if !yield(r.next()) {
				return
			}
		}
	}
}

func (t *Times) reader() *timesReader { return &timesReader{b: t.b} }

// timesReader reads the times one by one.
type timesReader struct {
	b   []byte
	sec int64
}

// next returns the next time, or that of 1970 at the end.
func (r *timesReader) next() time.Time {
	if len(r.b) == 0 {
		return time.Unix(0, 0)
	}
	d, n := binary.Varint(r.b)
	r.b = r.b[n:]
	nsec, n := binary.Uvarint(r.b)
	r.b = r.b[n:]
	r.sec += d
	return time.Unix(r.sec, int64(nsec))
}
