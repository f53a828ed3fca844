package retry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// Patience is the default of [Watched.Patience].
	Patience = 60 * time.Second
	// LeastRate is the number of bytes a second below which a transfer has stalled.
	LeastRate = 1000
)

// StallError is the cause of the end of a request to a server that did not answer, or
// transferred too few bytes, for a time.
type StallError struct {
	Patience time.Duration
	Answered bool // the server transferred too few bytes
}

func (e *StallError) Error() string {
	if e.Answered {
		return fmt.Sprintf("the transfer has stalled: less than %d bytes a second for %v", LeastRate, e.Patience)
	}
	return fmt.Sprintf("no answer for %v", e.Patience)
}

// Timeout returns true, as for errors of the net package.
func (e *StallError) Timeout() bool { return true }

// Watched is a round tripper that ends requests which stall: those whose answer does not
// begin, and those whose bodies are sent or received too slowly. Only the time counts
// that is spent waiting for the network, not that of the reader or of the source. The
// wait for an answer after a body has been sent is not limited.
type Watched struct {
	http.RoundTripper
	Patience time.Duration // 0: the default
}

// RoundTrip implements [http.RoundTripper].
func (w Watched) RoundTrip(in *http.Request) (*http.Response, error) {
	patience := cmp.Or(w.Patience, Patience)
	ctx, cancel := context.WithCancelCause(in.Context())
	req := in.Clone(ctx)
	stop := func() bool { return true }
	sending := &watch{patience: patience, stalled: func() { cancel(&StallError{patience, true}) }}
	if req.Body == nil || req.Body == http.NoBody {
		stop = time.AfterFunc(patience, func() { cancel(&StallError{Patience: patience}) }).Stop
	} else {
		req.Body = &sentBody{req.Body, sending, 0}
	}
	resp, err := w.RoundTripper.RoundTrip(req)
	stop()
	sending.close()
	if err != nil {
		err = cmp.Or(context.Cause(ctx), err)
		cancel(nil)
		return nil, err
	}
	receiving := &watch{patience: patience, stalled: sending.stalled}
	resp.Body = &receivedBody{resp.Body, receiving, ctx, cancel}
	return resp, nil
}

// A watch measures waits for a network and the bytes that they yield.
type watch struct {
	patience time.Duration
	stalled  func() // is called once

	mu     sync.Mutex
	timer  *time.Timer
	began  time.Time     // of the wait under way; zero: none
	waited time.Duration // since the last time that enough bytes had been transferred
	bytes  int64         // in this time
	closed bool
}

// begin begins a wait.
func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.began = time.Now()
	left := max(w.patience-w.waited, 0)
	if w.timer == nil {
		w.timer = time.AfterFunc(left, w.expire)
		return
	}
	w.timer.Reset(left)
}

// end ends a wait that yielded n bytes.
func (w *watch) end(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.began.IsZero() {
		return
	}
	w.timer.Stop()
	w.bytes += int64(n)
	w.account()
	w.began = time.Time{}
}

// expire is called during a wait, when patience is exhausted unless enough bytes had been
// transferred before it.
func (w *watch) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.began.IsZero() || w.closed {
		return
	}
	w.account()
	if !w.closed {
		w.timer.Reset(w.patience - w.waited)
	}
}

// account adds the wait under way, and ends the time of the measurement if it is over.
func (w *watch) account() {
	now := time.Now()
	w.waited += now.Sub(w.began)
	w.began = now
	if w.waited < w.patience {
		return
	}
	if w.bytes < int64(w.patience.Seconds()*LeastRate) {
		w.closed = true
		w.stalled()
	}
	w.waited, w.bytes = 0, 0
}

func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// A receivedBody waits for the network while it is read.
type receivedBody struct {
	io.ReadCloser
	*watch
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (b *receivedBody) Read(p []byte) (int, error) {
	b.begin()
	n, err := b.ReadCloser.Read(p)
	b.end(n)
	if err != nil && err != io.EOF {
		err = cmp.Or(context.Cause(b.ctx), err)
	}
	return n, err
}

func (b *receivedBody) Close() error {
	b.close()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// A sentBody waits for the network between reads.
type sentBody struct {
	io.ReadCloser
	*watch
	n int // of the last read
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.end(b.n)
	n, err := b.ReadCloser.Read(p)
	if b.n = n; err == nil {
		b.begin()
	}
	return n, err
}

func (b *sentBody) Close() error {
	b.close()
	return b.ReadCloser.Close()
}
