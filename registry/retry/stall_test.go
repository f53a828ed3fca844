package retry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// server is a round tripper that reads a request's body and answers with one, as slowly
// as its functions make it.
type server struct {
	wait time.Duration                   // before the answer
	take func(body io.Reader)            // reads the request's body
	give func(p []byte) (n int, e error) // reads the answer's body
}

func (s server) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if req.Body != nil {
		taken := make(chan struct{})
		go func() {
			defer close(taken)
			s.take(req.Body)
		}()
		select {
		case <-taken:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := Sleep(ctx, s.wait); err != nil {
		return nil, ctx.Err()
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(givenBody{ctx, s.give})}, nil
}

type givenBody struct {
	ctx  context.Context
	give func([]byte) (int, error)
}

func (b givenBody) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := b.give(p)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
}

// every returns a body of n bytes each time that d has passed, total in all.
func every(d time.Duration, n, total int) func([]byte) (int, error) {
	return func(p []byte) (int, error) {
		if total <= 0 {
			return 0, io.EOF
		}
		time.Sleep(d)
		k := min(n, len(p), total)
		total -= k
		return k, nil
	}
}

// slowly is a reader that takes time before each read.
type slowly struct {
	read func([]byte) (int, error)
}

func (s slowly) Read(p []byte) (int, error) { return s.read(p) }

// exchange sends a request over a watched server and reads the answer. It returns the
// time that it took.
func exchange(t *testing.T, s server, patience time.Duration, body io.Reader, pause time.Duration) (time.Duration, error) {
	t.Helper()
	begin := time.Now()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://localhost/", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := Watched{s, patience}.RoundTrip(req)
	if err != nil {
		return time.Since(begin), err
	}
	defer resp.Body.Close()
	for p := make([]byte, 64<<10); ; time.Sleep(pause) {
		if _, err := resp.Body.Read(p); err != nil {
			if err == io.EOF {
				err = nil
			}
			return time.Since(begin), err
		}
	}
}

func TestStalledDownloads(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		s     server
		pause time.Duration // of the reader
		ends  time.Duration // with an error; 0: without one
	}{
		{name: "drips", s: server{give: every(time.Second, 1, 1<<20)}, ends: time.Minute},
		{name: "drips more", s: server{give: every(time.Second, 900, 1<<30)}, ends: time.Minute},
		{name: "is slow", s: server{give: every(time.Second, 1100, 1<<20)}},
		{name: "drips after much", s: server{give: func() func([]byte) (int, error) {
			much, drip := every(time.Millisecond, 64<<10, 10<<20), every(time.Second, 1, 1<<20)
			return func(p []byte) (int, error) {
				if n, err := much(p); err == nil {
					return n, nil
				}
				return drip(p)
			}
		}()}, ends: 2 * time.Minute},
		{name: "pauses", s: server{give: every(59*time.Second, 64<<10, 1<<20)}},
		{name: "is silent", s: server{give: every(time.Hour, 1, 1)}, ends: time.Minute},
		{name: "ends soon", s: server{give: every(time.Second, 1, 30)}},
		{name: "has a slow reader", s: server{give: every(time.Second, 64<<10, 1<<20)}, pause: time.Hour},
		{name: "drips to a slow reader", s: server{give: every(7*time.Second, 1, 1000)}, pause: time.Minute, ends: 540 * time.Second},
		{name: "answers late", s: server{wait: 59 * time.Second, give: every(0, 1, 1)}},
		{name: "does not answer", s: server{wait: time.Hour}, ends: time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			took, err := exchange(t, test.s, 0, nil, test.pause)
			check(t, test.name, took, err, test.ends)
			time.Sleep(2 * time.Hour) // the end of what the server still does
		})
	}
}

func check(t *testing.T, name string, took time.Duration, err error, ends time.Duration) {
	t.Helper()
	var stall *StallError
	if ends == 0 {
		if err != nil {
			t.Errorf("%s: error %v after %v", name, err, took)
		}
		return
	}
	if !errors.As(err, &stall) || took < ends-time.Second || took > ends+time.Second {
		t.Errorf("%s: error %v after %v, want a stall after %v", name, err, took, ends)
	}
}

func TestStalledUploads(t *testing.T) {
	t.Parallel()
	reads := func(n int, d time.Duration) func(io.Reader) {
		return func(r io.Reader) {
			for p := make([]byte, n); ; time.Sleep(d) {
				if _, err := r.Read(p); err != nil {
					return
				}
			}
		}
	}
	for _, test := range []struct {
		name string
		take func(io.Reader)
		body func([]byte) (int, error)
		ends time.Duration
	}{
		{"a fast server", reads(32<<10, 0), every(0, 32<<10, 10<<20), 0},
		{"a slow server", reads(32<<10, 20*time.Second), every(0, 32<<10, 1<<20), 0},
		{"a server that takes a byte a second", reads(1, time.Second), every(0, 3000, 3000), time.Minute},
		{"a server that takes nothing", func(r io.Reader) {
			_, _ = r.Read(make([]byte, 1<<10))
			time.Sleep(time.Hour)
		}, every(0, 32<<10, 1<<20), time.Minute},
		{"a slow source", reads(32<<10, 0), every(10*time.Minute, 10, 100), 0},
		{"a late answer", func(r io.Reader) {
			_, _ = io.Copy(io.Discard, r)
			time.Sleep(10 * time.Minute) // the registry copies it
		}, every(0, 32<<10, 1<<20), 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			took, err := exchange(t, server{take: test.take, give: every(0, 1, 1)}, 0, slowly{test.body}, 0)
			check(t, test.name, took, err, test.ends)
			time.Sleep(2 * time.Hour)
		})
	}
}

// The patience is a parameter, and the error names it.
func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		took, err := exchange(t, server{give: every(time.Second, 1, 1<<20)}, 5*time.Second, nil, 0)
		check(t, "a drip", took, err, 5*time.Second)
		if want := "the transfer has stalled: less than 1000 bytes a second for 5s"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		time.Sleep(time.Hour)
		_, err = exchange(t, server{wait: time.Hour}, 5*time.Second, nil, 0)
		if want := "no answer for 5s"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		time.Sleep(2 * time.Hour)
	})
}

// The end of the request's context is told as such.
func TestWatchedCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := errors.New("ended")
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := Watched{RoundTripper: server{give: every(time.Hour, 1, 1)}}.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { cancel(ended) })
		if _, err := resp.Body.Read(make([]byte, 1)); err != ended {
			t.Errorf("error %v", err)
		}
		resp.Body.Close()
		time.Sleep(2 * time.Hour)
	})
}
