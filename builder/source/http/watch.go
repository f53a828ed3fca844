package http

import (
	"context"
	"errors"
	"io"
	"time"
	"unicode"
)

var errSlow = errors.New("the server sends nothing any more")

// cause gives the reason why a request was ended, if it was.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// watched is a body that must keep coming.
type watched struct {
	r           io.Reader
	slow        *time.Timer
	patience    time.Duration
	done, total int64
	show        func(done, total int64)
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.slow.Reset(w.patience)
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
