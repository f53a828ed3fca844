package serve

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Faults say how a registry misbehaves, for tests of clients. Of the fields
// below Times, those that are set apply together.
type Faults struct {
	Match func(*http.Request) bool // which requests; nil is all
	Times int                      // how many of these before it behaves; 0 is for ever

	Delay      time.Duration // wait before anything else
	Drop       bool          // close the connection without an answer
	Status     int           // answer this instead
	RetryAfter string        // with this header
	CutRequest int64         // close the connection after so many bytes of the request's body
	Cut        int64         // close the connection after so many bytes of the answer's body
	Corrupt    bool          // turn over a bit of the answer's body
}

// Faulty wraps h so that it misbehaves. Several kinds of fault are had by
// wrapping several times.
func Faulty(h http.Handler, f Faults) http.Handler {
	return &faulty{next: h, f: f}
}

// kinds are the faults that Seeded chooses from.
var kinds = []Faults{
	{Drop: true}, {CutRequest: 1}, {CutRequest: 100 << 10}, {Cut: 1}, {Cut: 100}, {Cut: 100 << 10}, {Corrupt: true},
	{Status: 408}, {Status: 429, RetryAfter: "1"}, {Status: 429}, {Status: 500}, {Status: 502}, {Status: 503, RetryAfter: "2"}, {Status: 504},
	{Status: 400}, {Status: 401}, {Status: 403}, {Status: 404}, {Status: 405}, {Status: 413}, {Status: 416},
}

// SeededKinds is how many faults Seeded chooses from.
var SeededKinds = len(kinds)

// Seeded wraps h so that one request goes wrong, the one with number seed /
// SeededKinds % requests, in the way of number seed % SeededKinds; and so do a
// few later ones, if seed is beyond all of these.
func Seeded(h http.Handler, seed uint64, requests int) http.Handler {
	faults := []Faults{kinds[seed%uint64(len(kinds))]}
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
		h = Faulty(h, f)
	}
	var n atomic.Uint64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), numberKey{}, n.Add(1)-1)))
	})
}

type numberKey struct{}

type faulty struct {
	next http.Handler
	f    Faults

	mu   sync.Mutex
	done int
}

func (h *faulty) due(r *http.Request) bool {
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

func (h *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.due(r) {
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
	h.next.ServeHTTP(&faultyWriter{ResponseWriter: w, f: h.f}, r)
}

// faultyWriter spoils a response's body. It has no ReadFrom, so that all
// bytes pass through Write.
type faultyWriter struct {
	http.ResponseWriter
	f    Faults
	sent int64
}

func (w *faultyWriter) Write(p []byte) (int, error) {
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
