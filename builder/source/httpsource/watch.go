package httpsource

import (
	"context"
	"io"
	"unicode"
)

// cause returns the cause of the cancellation if ctx was cancelled, otherwise err.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// shown is a body that shows how many bytes have been received.
type shown struct {
	r           io.Reader
	done, total int64
	show        func(done, total int64)
}

func (w *shown) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.done += int64(n)
		if w.show != nil {
			w.show(w.done, w.total)
		}
	}
	if err != nil && err != io.EOF {
		err = &brokeOff{err}
	}
	return n, err
}

func control(r rune) bool { return r == 0 || unicode.IsControl(r) }
