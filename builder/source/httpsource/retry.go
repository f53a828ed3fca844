package httpsource

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/cairn-build/cairn/registry/retry"
)

// refused is the error for a response without a file.
type refused struct {
	text   string
	status int
	wait   time.Duration // requested by the server
}

func (e *refused) Error() string { return "the server answers " + e.text }

// brokeOff is the error of an incomplete body.
type brokeOff struct{ err error }

func (e *brokeOff) Error() string { return e.err.Error() }
func (e *brokeOff) Unwrap() error { return e.err }

// retryable reports whether another attempt may succeed, and the time to wait that the
// server has requested, 0 if none. A server that cannot be reached, or stalls, is not retried.
func retryable(err error) (wait time.Duration, ok bool) {
	var no *refused
	if errors.As(err, &no) {
		return no.wait, retry.Status(no.status) && no.wait <= retry.LongestAsk
	}
	if errors.As(err, new(*retry.StallError)) {
		return 0, false
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
