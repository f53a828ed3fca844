// Package http fetches files from web servers, for ADD and for contexts.
//
// What was fetched is a blob of the store, and a note of what the server said of
// it: its ETag and its time. The next fetch of the same URL is one request that
// asks whether the file changed; if not, nothing is transferred. A file whose
// digest is known beforehand is not even asked for once the store has it.
//
// A server that is in trouble, or a transfer that breaks off, is tried again a few
// times.
//
// Servers are foreign: only http and https are spoken, whatever they redirect
// to, credentials stay with the host that they are for, and a body goes to the
// disk as it comes.
package http

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/retry"
)

// Options say what a Fetcher works with.
type Options struct {
	Store *store.Store

	// Secrets may have HTTP_AUTH_TOKEN_<host>, a bearer token, and
	// HTTP_AUTH_HEADER_<host>, the value of an Authorization header. Nil: none.
	Secrets source.Secrets

	UserAgent string
	MaxBytes  int64 // of one file; 0 is any number
}

// A TooLargeError says that a file has more than MaxBytes.
type TooLargeError struct{ Most int64 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the file has more than %d bytes", e.Most)
}

// Fetcher fetches files. See [New].
type Fetcher struct {
	o         Options
	transport *http.Transport
	patience  time.Duration // how long nothing may come
	sleep     func(context.Context, time.Duration) error
}

// New makes a Fetcher. Proxies are those of the environment.
func New(o Options) *Fetcher {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	return &Fetcher{o: o, transport: t, patience: 2 * time.Minute, sleep: retry.Sleep}
}

// Close ends idle connections.
func (f *Fetcher) Close() { f.transport.CloseIdleConnections() }

// Request is what to fetch.
type Request struct {
	URL    string
	Digest layer.Digest // what it must have; "" is anything
}

// File is what was fetched: a blob of the store, which stays for as long as the
// store is open.
type File struct {
	Digest   layer.Digest
	Size     int64
	Modified time.Time // as the server says; zero if it does not
}

// note is what the store remembers of a URL.
type note struct {
	ETag         string // without W/
	LastModified string
	Settled      bool // the file was older than a moment: its time tells versions apart
	Digest       layer.Digest
	Size         int64
}

func (n *note) file() *File {
	out := &File{Digest: n.Digest, Size: n.Size}
	if t, err := http.ParseTime(n.LastModified); err == nil {
		out.Modified = t
	}
	return out
}

// reached says in words that no connection came about.
func reached(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("the server cannot be reached: %w; is its name spelled right, and is there a network?", op.Err)
	}
	return err
}

// Get fetches a file, unless the store has it and the server says that it did
// not change, or the store has what the digest asks for. show, if not nil, is
// told how many bytes came, of how many (0: unknown).
func (f *Fetcher) Get(ctx context.Context, r Request, show func(done, total int64)) (*File, error) {
	if _, err := parse(r.URL); err != nil {
		return nil, err
	}
	key := "http " + r.URL
	unlock, err := f.o.Store.Lock(ctx, key, nil)
	if err != nil {
		return nil, err
	}
	defer unlock()
	old := f.known(key)
	if old != nil && r.Digest != "" {
		if old.Digest == r.Digest {
			return old.file(), nil
		}
		old = nil // what the server has now is what counts
	}
	n, err := f.persist(ctx, r, old, show)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source.Redact(r.URL), reached(err))
	}
	if b, err := json.Marshal(n); err == nil {
		_ = f.o.Store.PutHint(key, b) // costs a download next time
	}
	return n.file(), nil
}

func (f *Fetcher) known(key string) *note {
	b, err := f.o.Store.Hint(key)
	if err != nil {
		return nil
	}
	var n note
	if json.Unmarshal(b, &n) != nil {
		return nil
	}
	if size, ok := f.o.Store.BlobSize(n.Digest); !ok || size != n.Size {
		return nil
	}
	return &n
}

// persist fetches until it is done, or there is no hope.
func (f *Fetcher) persist(ctx context.Context, r Request, old *note, show func(done, total int64)) (*note, error) {
	for failed := 1; ; failed++ {
		n, err := f.fetch(ctx, r, old, show)
		if err == nil {
			return n, nil
		}
		wait, ok := hopeful(err)
		if !ok || failed == retry.Tries || ctx.Err() != nil {
			return nil, err
		}
		if err := f.sleep(ctx, cmp.Or(wait, retry.Wait(failed))); err != nil {
			return nil, err
		}
	}
}

// fetch makes one request. A server that ignores the question whether the
// file changed, but names the same ETag, is not read.
func (f *Fetcher) fetch(ctx context.Context, r Request, old *note, show func(done, total int64)) (*note, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	slow := time.AfterFunc(f.patience, func() { stop(errSlow) })
	defer slow.Stop()
	resp, err := f.send(ctx, r.URL, old)
	if err != nil {
		return nil, cause(ctx, err)
	}
	defer resp.Body.Close()
	etag := strings.TrimPrefix(resp.Header.Get("ETag"), "W/")
	switch {
	case resp.StatusCode == http.StatusNotModified && old != nil:
		return old, nil
	case resp.StatusCode != http.StatusOK: // 206 is a part, which nobody asked for
		return nil, &refused{resp.Status, resp.StatusCode, retry.After(resp.Header)}
	case old != nil && etag != "" && etag == old.ETag && resp.Header.Get("Last-Modified") == old.LastModified:
		return old, nil
	}
	if f.o.MaxBytes > 0 && resp.ContentLength > f.o.MaxBytes {
		return nil, &TooLargeError{f.o.MaxBytes}
	}
	body := &watched{r: resp.Body, slow: slow, patience: f.patience, total: max(resp.ContentLength, 0), show: show}
	n := &note{ETag: etag, LastModified: resp.Header.Get("Last-Modified"), Settled: settled(resp.Header)}
	if err := f.save(n, r.Digest, body); err != nil {
		return nil, cause(ctx, err)
	}
	return n, nil
}

// settled tells whether a file's time, which has whole seconds, would change
// with it.
func settled(h http.Header) bool {
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	return err == nil && now.Sub(modified) > 2*time.Second
}

// save streams a body into a blob; with a digest, only that one is kept.
func (f *Fetcher) save(n *note, want layer.Digest, body io.Reader) error {
	w, err := f.o.Store.NewBlob()
	if err != nil {
		return err
	}
	defer w.Close()
	sum := sha256.New()
	if f.o.MaxBytes > 0 {
		body = io.LimitReader(body, f.o.MaxBytes+1)
	}
	size, err := io.CopyBuffer(io.MultiWriter(w, sum), body, make([]byte, 256<<10))
	if err == nil && f.o.MaxBytes > 0 && size > f.o.MaxBytes {
		err = &TooLargeError{f.o.MaxBytes}
	}
	if err != nil {
		return err
	}
	n.Digest, n.Size = layer.FromHash(sum), w.Size()
	if want != "" && n.Digest != want {
		return fmt.Errorf("digest mismatch: it has %s, --checksum wants %s", n.Digest, want)
	}
	return w.Commit(n.Digest)
}

func (f *Fetcher) send(ctx context.Context, at string, old *note) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	if f.o.UserAgent != "" {
		req.Header.Set("User-Agent", f.o.UserAgent)
	}
	if old != nil && old.ETag != "" {
		req.Header.Set("If-None-Match", old.ETag)
	} else if old != nil && old.Settled {
		req.Header.Set("If-Modified-Since", old.LastModified)
	}
	if err := f.authorize(req); err != nil {
		return nil, err
	}
	client := http.Client{Transport: f.transport, CheckRedirect: redirect}
	resp, err := client.Do(req)
	var failed *url.Error
	if errors.As(err, &failed) { // it repeats the URL, users and all
		err = failed.Err
	}
	return resp, err
}

// authorize adds what the secrets have for the host. As with BuildKit, a token
// wins over a header.
func (f *Fetcher) authorize(req *http.Request) error {
	if f.o.Secrets == nil {
		return nil
	}
	host := req.URL.Hostname()
	for _, s := range []struct{ id, prefix string }{
		{"HTTP_AUTH_HEADER_" + host, ""},
		{"HTTP_AUTH_TOKEN_" + host, "Bearer "},
	} {
		v, ok, err := f.o.Secrets.Get(s.id)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		value := s.prefix + strings.TrimSpace(string(v))
		if strings.ContainsAny(value, "\r\n\x00") {
			return fmt.Errorf("secret %s: a header has one line", s.id)
		}
		req.Header.Set("Authorization", value)
	}
	return nil
}

// redirect lets a redirect pass if it leads to the web. Credentials go no
// further than to the host that they are for, and not from https to http.
func redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("more than 10 redirects")
	}
	if err := speaks(req.URL); err != nil {
		return fmt.Errorf("redirect refused: %w", err)
	}
	first := via[0].URL
	if req.URL.Host != first.Host || first.Scheme == "https" && req.URL.Scheme != "https" {
		req.Header.Del("Authorization")
	}
	return nil
}

func parse(at string) (*url.URL, error) {
	u, err := url.Parse(at)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return nil, errors.New(source.Redact(fmt.Sprintf("%s: not a URL: %v", at, err)))
	}
	return u, speaks(u)
}

func speaks(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("scheme %q: only http and https are fetched", u.Scheme)
	}
	if u.Host == "" {
		return errors.New("the URL names no host")
	}
	return nil
}

// FileName is what ADD calls the file of a URL: the last element of its path.
func FileName(at string) string {
	name := "__unnamed__"
	if u, err := url.Parse(at); err == nil {
		if base := path.Base(u.Path); base != "." && base != "/" {
			name = base
		}
	}
	return safe(name)
}

// safe makes sure that a name is that of one file.
func safe(name string) string {
	name = path.Base(strings.TrimSpace(name))
	if name == "" || name == "." || name == ".." || name == "/" || strings.ContainsFunc(name, control) {
		return "download"
	}
	return name
}
