package httpsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/retry"
)

const longAgo = "Tue, 03 Jan 2006 15:04:05 GMT"

// site is a web server that records requests.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	sent     int64 // bytes of bodies
}

func newSite(t *testing.T, answer http.HandlerFunc) *site {
	s := &site{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		s.mu.Unlock()
		answer(counter{w, s}, r)
	}))
	t.Cleanup(s.Close)
	return s
}

type counter struct {
	http.ResponseWriter
	s *site
}

func (c counter) Write(p []byte) (int, error) {
	c.s.mu.Lock()
	c.s.sent += int64(len(p))
	c.s.mu.Unlock()
	return c.ResponseWriter.Write(p)
}

func (s *site) take() (requests []*http.Request, sent int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests, sent = s.requests, s.sent
	s.requests, s.sent = nil, 0
	return requests, sent
}

type secrets map[string]string

func (s secrets) Get(id string) ([]byte, bool, error) {
	v, ok := s[id]
	return []byte(v), ok, nil
}

func newFetcher(t *testing.T, s secrets) *Fetcher {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := New(Options{Store: st, Secrets: s, UserAgent: "cairn/test"})
	f.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	t.Cleanup(func() {
		f.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// next returns the Fetcher of a later session on the same store.
func (f *Fetcher) next() *Fetcher {
	g := New(f.o)
	g.sleep = f.sleep
	return g
}

func (f *Fetcher) text(t *testing.T, got *File) string {
	t.Helper()
	r, err := f.o.Store.OpenBlob(got.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != got.Size {
		t.Fatalf("%d bytes, want %d; %v", len(b), got.Size, err)
	}
	return string(b)
}

// An unchanged file costs one request and no transfer, for all kinds of conditions that
// servers support. A changed file is fetched.
func TestUnchanged(t *testing.T) {
	tests := []struct {
		name   string
		header http.Header
		want   int64 // bytes sent the second time
	}{
		{"etag", http.Header{"Etag": {`"1"`}}, 0},
		{"weak etag", http.Header{"Etag": {`W/"1"`}}, 0},
		{"time", http.Header{"Last-Modified": {longAgo}}, 0},
		{"etag and time", http.Header{"Etag": {`"1"`}, "Last-Modified": {longAgo}}, 0},
		{"nothing", http.Header{}, 5},
		{"a time that is now", http.Header{"Last-Modified": {time.Now().UTC().Add(time.Hour).Format(http.TimeFormat)}}, 5},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			body := "hello"
			s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
				for k, v := range test.header {
					w.Header()[k] = v
				}
				// ServeContent does not evaluate If-Modified-Since without a time.
				if since := r.Header.Get("If-Modified-Since"); since != "" && since == test.header.Get("Last-Modified") {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
			})
			f := newFetcher(t, nil)
			for i := range 2 {
				got, err := f.next().Get(context.Background(), Request{URL: s.URL + "/a"}, nil)
				if err != nil || f.text(t, got) != "hello" {
					t.Fatalf("%v, %v", got, err)
				}
				if (test.header.Get("Last-Modified") == "") != got.Modified.IsZero() {
					t.Errorf("modified %v", got.Modified)
				}
				requests, sent := s.take()
				if len(requests) != 1 || i == 1 && sent != test.want {
					t.Errorf("time %d: %d requests, %d bytes", i, len(requests), sent)
				}
			}
			body, test.header = "other", http.Header{"Etag": {`"2"`}}
			got, err := f.next().Get(context.Background(), Request{URL: s.URL + "/a"}, nil)
			if err != nil || f.text(t, got) != "other" {
				t.Fatalf("%v, %v", got, err)
			}
		})
	}
}

// The body is not read if the server ignores the condition and sends the same ETag.
func TestIgnoredCondition(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		fmt.Fprint(w, "hello")
	})
	f := newFetcher(t, nil)
	var last *File
	for range 2 {
		got, err := f.next().Get(context.Background(), Request{URL: s.URL}, nil)
		if err != nil || last != nil && *last != *got {
			t.Fatalf("%v, %v", got, err)
		}
		last = got
	}
	if requests, _ := s.take(); len(requests) != 2 {
		t.Errorf("%d requests", len(requests))
	}
}

// A Fetcher requests a URL once, even if the server would send another file. It requests it
// again only if the store has lost the file.
func TestOneAnswerPerSession(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, time.Now().UnixNano()) })
	f := newFetcher(t, nil)
	first, err := f.Get(t.Context(), Request{URL: s.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Request{{URL: s.URL}, {s.URL, first.Digest}} {
		if again, err := f.Get(t.Context(), r, nil); err != nil || *again != *first {
			t.Errorf("%v, %v; want %v", again, err, first)
		}
	}
	if requests, _ := s.take(); len(requests) != 1 {
		t.Errorf("%d requests, want 1", len(requests))
	}
	blob, err := f.o.Store.OpenBlob(first.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(blob.Close(), os.Remove(blob.Name())); err != nil {
		t.Fatal(err)
	}
	if again, err := f.Get(t.Context(), Request{URL: s.URL}, nil); err != nil || again.Digest == first.Digest {
		t.Errorf("after the file was lost: %v, %v", again, err)
	}
}

func TestDigest(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") })
	f := newFetcher(t, nil)
	ctx, good, bad := context.Background(), layer.FromBytes([]byte("hello")), layer.FromBytes([]byte("other"))
	_, err := f.Get(ctx, Request{s.URL + "/a", bad}, nil)
	if want := "digest mismatch: got " + string(good) + ", expected " + string(bad) + " (--checksum)"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
	if _, ok := f.o.Store.TouchBlob(good); ok {
		t.Error("what has the wrong digest is kept")
	}
	s.take()
	for range 2 {
		if _, err := f.Get(ctx, Request{s.URL + "/a", good}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if requests, _ := s.take(); len(requests) != 1 {
		t.Errorf("%d requests for what is known by its digest", len(requests))
	}
}

func TestErrors(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/circle":
			http.Redirect(w, r, "/circle", http.StatusFound)
		case "/short":
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "short")
		case "/304":
			w.WriteHeader(http.StatusNotModified)
		case "/206":
			w.Header().Set("Content-Range", "bytes 0-3/10")
			w.WriteHeader(http.StatusPartialContent)
			fmt.Fprint(w, "part")
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/300":
			w.WriteHeader(http.StatusMultipleChoices)
		default:
			http.NotFound(w, r)
		}
	})
	at := strings.Replace(s.URL, "http://", "http://me:secret@", 1)
	hidden := strings.Replace(s.URL, "http://", "http://xxxxx:xxxxx@", 1)
	f := newFetcher(t, nil)
	for url, want := range map[string]string{
		at + "/missing":          hidden + "/missing: the server answers 404 Not Found",
		at + "/file":             hidden + `/file: redirect refused: scheme "file": only http and https are supported`,
		at + "/circle":           hidden + "/circle: more than 10 redirects",
		at + "/short":            hidden + "/short: unexpected EOF",
		at + "/304":              hidden + "/304: the server answers 304 Not Modified",
		at + "/206":              hidden + "/206: the server answers 206 Partial Content",
		at + "/204":              hidden + "/204: the server answers 204 No Content",
		at + "/300":              hidden + "/300: the server answers 300 Multiple Choices",
		"ftp://me:secret@host/a": `scheme "ftp": only http and https are supported`,
		"http:///a":              "the URL has no host",
		"http://me:secret@h\n/":  "http://xxxxx:xxxxx@h\n/: not a URL: net/url: invalid control character in URL",
	} {
		_, err := f.Get(context.Background(), Request{URL: url}, nil)
		if err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", url, err, want)
		}
	}
}

// Server errors are retried if that can help.
func TestTrouble(t *testing.T) {
	trouble := map[string]http.HandlerFunc{
		"/503":  func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"/429":  func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		"/drop": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"/short": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "hel")
		},
		"/cut": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "hel")
			w.(counter).ResponseWriter.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"/404": http.NotFound,
		"/501": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotImplemented) },
		"/busy": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(503)
		},
	}
	for path, tries := range map[string]int{"/503": 3, "/429": 3, "/drop": 3, "/short": 3, "/cut": 3, "/404": 1, "/501": 1, "/busy": 1} {
		var n atomic.Int32
		s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) < 3 {
				trouble[path](w, r)
				return
			}
			fmt.Fprint(w, "hello")
		})
		f := newFetcher(t, nil)
		got, err := f.Get(t.Context(), Request{URL: s.URL + path}, nil)
		if tries == 1 && err == nil || tries > 1 && (err != nil || f.text(t, got) != "hello") {
			t.Errorf("%s: %v, %v", path, got, err)
		}
		if int(n.Load()) != tries {
			t.Errorf("%s: asked %d times, want %d", path, n.Load(), tries)
		}
	}
}

// The number of attempts is limited.
func TestTroubleWithoutEnd(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	f := newFetcher(t, nil)
	_, err := f.Get(t.Context(), Request{URL: s.URL}, nil)
	if requests, _ := s.take(); len(requests) != retry.Tries || err == nil || !strings.HasSuffix(err.Error(), "the server answers 502 Bad Gateway") {
		t.Errorf("%d requests: %v", len(requests), err)
	}
	ended := errors.New("ended")
	f.sleep = func(context.Context, time.Duration) error { return ended }
	if _, err := f.Get(t.Context(), Request{URL: s.URL}, nil); !errors.Is(err, ended) {
		t.Errorf("error %v, want what ended the wait", err)
	}
}

// A server that stops sending is given up after a while.
func TestSilentServer(t *testing.T) {
	done := make(chan struct{})
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "some")
		w.(counter).ResponseWriter.(http.Flusher).Flush()
		<-done
	})
	defer close(done)
	f := newFetcher(t, nil)
	f.watched.Patience = 50 * time.Millisecond
	const want = "the transfer has stalled: less than 1000 bytes a second for 50ms; wait longer with --stall-timeout"
	if _, err := f.Get(context.Background(), Request{URL: s.URL}, nil); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
	if requests, _ := s.take(); len(requests) != 1 {
		t.Errorf("%d requests, want one", len(requests))
	}
}

// A too large body is given up at the limit, or before its first byte if the server sends
// its size. A body of the maximum size is accepted.
func TestTooLarge(t *testing.T) {
	chunk := make([]byte, 1<<10)
	for name, answer := range map[string]http.HandlerFunc{
		"without end": func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < 1<<20; i++ { // a limit, in case the client does not hang up
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"announced": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(5<<10))
			w.Write(chunk)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, answer)
			f := newFetcher(t, nil)
			f.o.MaxBytes = 4 << 10
			_, err := f.Get(t.Context(), Request{URL: s.URL}, nil)
			var large *TooLargeError
			if !errors.As(err, &large) || large.Most != 4<<10 {
				t.Errorf("error %v", err)
			}
			if requests, _ := s.take(); len(requests) != 1 {
				t.Errorf("asked %d times", len(requests))
			}
		})
	}
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) { w.Write(chunk) })
	f := newFetcher(t, nil)
	f.o.MaxBytes = 1 << 10
	if got, err := f.Get(t.Context(), Request{URL: s.URL}, nil); err != nil || got.Size != 1<<10 {
		t.Errorf("as large as allowed: %v, %v", got, err)
	}
}

// Credentials are sent to their host only.
func TestAuthorization(t *testing.T) {
	other := newSite(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "there") })
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/stay":
			http.Redirect(w, r, "/here", http.StatusFound)
		}
	})
	// Both have the address 127.0.0.1, with different ports.
	tests := []struct {
		name, path, user  string
		secrets           secrets
		wantHere, wantOut string
	}{
		{"token", "/stay", "", secrets{"HTTP_AUTH_TOKEN_127.0.0.1": "t\n"}, "Bearer t", ""},
		{"header", "/stay", "", secrets{"HTTP_AUTH_HEADER_127.0.0.1": "Basic x"}, "Basic x", ""},
		{"both", "/stay", "", secrets{"HTTP_AUTH_HEADER_127.0.0.1": "Basic x", "HTTP_AUTH_TOKEN_127.0.0.1": "t"}, "Bearer t", ""},
		{"another host's", "/stay", "", secrets{"HTTP_AUTH_TOKEN_example.com": "t"}, "", ""},
		{"redirect", "/away", "", secrets{"HTTP_AUTH_TOKEN_127.0.0.1": "t"}, "Bearer t", ""},
		{"redirect with a user", "/away", "me:pass@", nil, "Basic bWU6cGFzcw==", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFetcher(t, test.secrets)
			_, err := f.Get(context.Background(), Request{URL: strings.Replace(s.URL, "://", "://"+test.user, 1) + test.path}, nil)
			if err != nil {
				t.Fatal(err)
			}
			here, _ := s.take()
			for _, r := range here {
				if got := r.Header.Get("Authorization"); got != test.wantHere {
					t.Errorf("%s: %q, want %q", r.URL.Path, got, test.wantHere)
				}
			}
			out, _ := other.take()
			for _, r := range out {
				if got := r.Header.Get("Authorization"); got != test.wantOut {
					t.Errorf("elsewhere: %q, want %q", got, test.wantOut)
				}
				if got := r.Header.Get("User-Agent"); got != "cairn/test" {
					t.Errorf("user agent %q", got)
				}
			}
		})
	}
}

func TestDowngradeDropsCredentials(t *testing.T) {
	first, _ := url.Parse("https://host/a")
	for at, want := range map[string]string{"https://host/b": "x", "http://host/b": "", "https://other/b": "", "https://host:444/": ""} {
		u, _ := url.Parse(at)
		req := &http.Request{URL: u, Header: http.Header{"Authorization": {"x"}}}
		if err := redirect(req, []*http.Request{{URL: first}}); err != nil || req.Header.Get("Authorization") != want {
			t.Errorf("%s: %q, %v", at, req.Header.Get("Authorization"), err)
		}
	}
}

func TestFileName(t *testing.T) {
	for at, want := range map[string]string{
		"https://host/a/b.tar.gz?x=1#y": "b.tar.gz",
		"https://host/a/":               "a",
		"https://host/":                 "__unnamed__",
		"https://host":                  "__unnamed__",
		"https://host/..":               "download",
		"https://host/%2e%2e":           "download",
		"https://host/a%2Fb":            "b",
		"https://host/a%00b":            "download",
		"https://host/a%0Ab":            "download",
		"https://host/a%20b":            "a b",
		"https://host/%20":              "download",
		"https://host/a\x7f":            "__unnamed__",
	} {
		if got := FileName(at); got != want {
			t.Errorf("FileName(%q) = %q, want %q", at, got, want)
		}
	}
}

func FuzzFileName(f *testing.F) {
	f.Add("https://host/a/%2e%2e%2f")
	f.Add("https://host/..%00")
	f.Add("http://h/\xff")
	f.Fuzz(func(t *testing.T, at string) {
		name := FileName(at)
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00\n\r") {
			t.Errorf("FileName(%q) = %q", at, name)
		}
	})
}
