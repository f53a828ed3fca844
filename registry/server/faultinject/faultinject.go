// Package faultinject makes an HTTP server misbehave, for tests of registry
// clients: it drops connections, answers with error statuses, and truncates or
// corrupts bodies.
package faultinject

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Fault describes how a server misbehaves. Of the fields below Times, those that
// are set apply together.
type Fault struct {
	Match func(*http.Request) bool // the requests to apply it to; nil matches all
	Times int                      // the number of these requests; 0 is no limit

	Delay      time.Duration // wait before anything else
	Drop       bool          // close the connection without an answer
	Status     int           // answer with this status
	RetryAfter string        // with this header
	CutRequest int64         // close the connection after this many bytes of the request's body
	Cut        int64         // close the connection after this many bytes of the answer's body
	Corrupt    bool          // flip a bit of the answer's body
}

// Handler returns a handler that passes requests on to next and misbehaves as
// f says. Handlers can be nested to inject several faults.
func Handler(next http.Handler, f Fault) http.Handler { return &handler{next: next, f: f} }

// kinds are the faults that Seeded chooses from.
var kinds = []Fault{
	{Drop: true}, {CutRequest: 1}, {CutRequest: 100 << 10}, {Cut: 1}, {Cut: 100}, {Cut: 100 << 10}, {Corrupt: true},
	{Status: 408}, {Status: 429, RetryAfter: "1"}, {Status: 429}, {Status: 500}, {Status: 502}, {Status: 503, RetryAfter: "2"}, {Status: 504},
	{Status: 400}, {Status: 401}, {Status: 403}, {Status: 404}, {Status: 405}, {Status: 413}, {Status: 416},
}

// Kinds is the number of faults that [Seeded] chooses from.
var Kinds = len(kinds)

// Seeded returns a handler that injects a fault, number seed % Kinds, into one
// request of a sequence, number seed / Kinds % requests, and passes the others
// on to next. If seed is at least Kinds * requests, it injects 1 to 3 more.
func Seeded(next http.Handler, seed uint64, requests int) http.Handler {
	faults := []Fault{kinds[seed%uint64(len(kinds))]}
	at := []uint64{seed / uint64(len(kinds)) % uint64(requests)}
	if seed >= uint64(len(kinds)*requests) {
		random := rand.New(rand.NewPCG(seed, 0))
		for range 1 + random.IntN(3) {
			faults = append(faults, kinds[random.IntN(len(kinds))])
			at = append(at, random.Uint64N(uint64(2*requests)))
		}
	}
	for i, f := range faults {
		f.Match = func(r *http.Request) bool { return r.Context().Value(numberKey{}) == at[i] }
		next = Handler(next, f)
	}
	var n atomic.Uint64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), numberKey{}, n.Add(1)-1)))
	})
}

// numberKey is the context key of a request's number.
type numberKey struct{}

type handler struct {
	next http.Handler
	f    Fault

	mu   sync.Mutex
	done int // number of requests that the fault was injected into
}

// applies reports whether to inject the fault into r, and counts r if so.
func (h *handler) applies(r *http.Request) bool {
	if h.f.Match != nil && !h.f.Match(r) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.f.Times > 0 && h.done >= h.f.Times {
		return false
	}
	h.done++
	return true
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.applies(r) {
		h.next.ServeHTTP(w, r)
		return
	}
	if h.f.Delay > 0 {
		select {
		case <-time.After(h.f.Delay):
		case <-r.Context().Done():
		}
	}
	if h.f.CutRequest > 0 {
		_, _ = io.CopyN(io.Discard, r.Body, h.f.CutRequest)
	}
	if h.f.Drop || h.f.CutRequest > 0 {
		panic(http.ErrAbortHandler)
	}
	if h.f.RetryAfter != "" {
		w.Header().Set("Retry-After", h.f.RetryAfter)
	}
	if h.f.Status != 0 {
		w.WriteHeader(h.f.Status)
		return
	}
	h.next.ServeHTTP(&responseWriter{ResponseWriter: w, f: h.f}, r)
}

// A responseWriter corrupts or truncates the body of a response. It has no
// ReadFrom, so that all bytes pass through Write.
type responseWriter struct {
	http.ResponseWriter
	f    Fault
	sent int64
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if w.f.Corrupt && w.sent == 0 && len(p) > 0 {
		p = append([]byte{p[0] ^ 1}, p[1:]...)
	}
	if w.f.Cut > 0 && w.sent+int64(len(p)) >= w.f.Cut {
		_, _ = w.ResponseWriter.Write(p[:w.f.Cut-w.sent])
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}
