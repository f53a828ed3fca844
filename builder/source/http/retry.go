package http

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/cairn-build/cairn/registry/retry"
)

// refused is an answer that is no file.
type refused struct {
	text   string
	status int
	wait   time.Duration // that the server asks for
}

func (e *refused) Error() string { return "the server answers " + e.text }

// brokeOff is the error of a body that ended before its end.
type brokeOff struct{ err error }

func (e *brokeOff) Error() string { return e.err.Error() }
func (e *brokeOff) Unwrap() error { return e.err }

// hopeful tells whether another attempt may do better, and how long the server
// wants to be left alone; 0: it does not say. A server that can't be reached is
// down, not in trouble.
func hopeful(err error) (wait time.Duration, ok bool) {
	var no *refused
	if errors.As(err, &no) {
		return no.wait, retry.Status(no.status) && no.wait <= retry.LongestAsk
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return 0, false
	}
	for _, lost := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, lost) {
			return 0, true
		}
	}
	return 0, errors.As(err, new(*brokeOff))
}
