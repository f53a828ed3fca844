package input

import (
	"context"
	"io"
)

// interruptible returns a reader whose Read ends when ctx does, even if r never
// returns.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	return &interruptibleReader{ctx: ctx, r: r, done: make(chan struct{}, 1)}
}

// interruptibleReader reads into a buffer of its own: a read that was given up may
// still write to it.
type interruptibleReader struct {
	ctx  context.Context
	r    io.Reader
	done chan struct{}
	buf  []byte
	n    int
	err  error
}

func (i *interruptibleReader) Read(b []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	if i.buf == nil {
		i.buf = make([]byte, 64<<10)
	}
	size := min(len(b), len(i.buf))
	go func() {
		i.n, i.err = i.r.Read(i.buf[:size])
		i.done <- struct{}{}
	}()
	select {
	case <-i.done:
		return copy(b, i.buf[:i.n]), i.err
	case <-i.ctx.Done():
		return 0, context.Cause(i.ctx)
	}
}
