// Package httpsource fetches files from web servers, for ADD and for contexts.
//
// A fetched file is a blob of the store, together with a note of its ETag and modification
// time. The next fetch of the same URL is a conditional request, so that an unchanged file
// is not transferred again. There is no request for a file whose digest is given and which
// the store has.
//
// Server errors and interrupted transfers are retried a few times.
//
// Servers are not trusted: only http and https are used, also after redirects, credentials
// are sent only to the host that they are for, and bodies are written to disk without
// being held in memory.
package httpsource

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
	"sync"
	"time"

	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/retry"
)

// Options configure a Fetcher.
type Options struct {
	Store *store.Store

	// Secrets may have HTTP_AUTH_TOKEN_<host>, a bearer token, and
	// HTTP_AUTH_HEADER_<host>, the value of an Authorization header. It may be nil.
	Secrets source.Secrets

	UserAgent string
	MaxBytes  int64 // maximum size of a file; 0 is unlimited

	// Patience is the time after which a stalled download ends; 0 is two minutes.
	Patience time.Duration
}

// TooLargeError is the error for a file with more than MaxBytes.
type TooLargeError struct{ Most int64 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the file has more than %d bytes", e.Most)
}

// Fetcher fetches files. See [New].
type Fetcher struct {
	o         Options
	transport *http.Transport
	watched   retry.Watched // over transport
	sleep     func(context.Context, time.Duration) error

	mu    sync.Mutex
	asked map[string]*note // by URL: the latest answer to this Fetcher
}

// New returns a Fetcher for one session, which requests each URL once. It uses the proxies
// of the environment.
func New(o Options) *Fetcher {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	watched := retry.Watched{RoundTripper: t, Patience: cmp.Or(o.Patience, 2*time.Minute)}
	return &Fetcher{o: o, transport: t, watched: watched, sleep: retry.Sleep, asked: map[string]*note{}}
}

// Close ends idle connections.
func (f *Fetcher) Close() { f.transport.CloseIdleConnections() }

// Request describes a file to fetch.
type Request struct {
	URL    string
	Digest layer.Digest // expected digest; "" is any
}

// File is a fetched file: a blob of the store, which is kept while the store is open.
type File struct {
	Digest   layer.Digest
	Size     int64
	Modified time.Time // from the server; zero if unknown
}

// note is the stored information about a URL.
type note struct {
	ETag         string // without W/
	LastModified string
	Settled      bool // the file was old enough that LastModified identifies its version
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

// explain adds advice to the error of a connection that could not be made, or stalled.
func explain(err error) error {
	var op *net.OpError
	if errors.As(err, new(*retry.StallError)) {
		return fmt.Errorf("%w; wait longer with --stall-timeout", err)
	}
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("the server cannot be reached: %w; check its name and the network", op.Err)
	}
	return err
}

// Get fetches a file, unless this Fetcher did before, the store has the file and the
// server reports that it did not change, or the store has a file with the digest. show,
// if not nil, is called with the number of bytes received and the total (0: unknown).
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
	if n := f.answered(r); n != nil {
		return n.file(), nil
	}
	old := f.known(key)
	if old != nil && r.Digest != "" {
		if old.Digest == r.Digest {
			return old.file(), nil
		}
		old = nil // the current file of the server may have the digest
	}
	n, err := f.fetchWithRetries(ctx, r, old, show)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source.Redact(r.URL), explain(err))
	}
	if b, err := json.Marshal(n); err == nil {
		_ = f.o.Store.PutHint(key, b) // a failure costs a download next time
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[r.URL] = n
	return n.file(), nil
}

// answered returns the note of an earlier request of this Fetcher, nil if there is none or
// the store has lost the file.
func (f *Fetcher) answered(r Request) *note {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.asked[r.URL]; n != nil && (r.Digest == "" || r.Digest == n.Digest) && f.stored(n) {
		return n
	}
	return nil
}

// known returns the stored note of a URL, nil if there is none or the store has lost the
// file.
func (f *Fetcher) known(key string) *note {
	b, err := f.o.Store.Hint(key)
	if err != nil {
		return nil
	}
	var n note
	if json.Unmarshal(b, &n) != nil || !f.stored(&n) {
		return nil
	}
	return &n
}

// stored reports whether the store has the file.
func (f *Fetcher) stored(n *note) bool {
	size, ok := f.o.Store.TouchBlob(n.Digest)
	return ok && size == n.Size
}

// fetchWithRetries calls fetch until it succeeds or its error is permanent.
func (f *Fetcher) fetchWithRetries(ctx context.Context, r Request, old *note, show func(done, total int64)) (*note, error) {
	for failed := 1; ; failed++ {
		n, err := f.fetch(ctx, r, old, show)
		if err == nil {
			return n, nil
		}
		wait, ok := retryable(err)
		if !ok || failed == retry.Tries || ctx.Err() != nil {
			return nil, err
		}
		if err := f.sleep(ctx, cmp.Or(wait, retry.Wait(failed))); err != nil {
			return nil, err
		}
	}
}

// fetch makes one request. If the server ignores the condition of the request and sends
// the file with the same ETag, fetch does not read the body.
func (f *Fetcher) fetch(ctx context.Context, r Request, old *note, show func(done, total int64)) (*note, error) {
	resp, err := f.send(ctx, r.URL, old)
	if err != nil {
		return nil, cause(ctx, err)
	}
	defer resp.Body.Close()
	etag := strings.TrimPrefix(resp.Header.Get("ETag"), "W/")
	switch {
	case resp.StatusCode == http.StatusNotModified && old != nil:
		return old, nil
	case resp.StatusCode != http.StatusOK: // 206 too: no part was requested
		return nil, &refused{resp.Status, resp.StatusCode, retry.After(resp.Header)}
	case old != nil && etag != "" && etag == old.ETag && resp.Header.Get("Last-Modified") == old.LastModified:
		return old, nil
	}
	if f.o.MaxBytes > 0 && resp.ContentLength > f.o.MaxBytes {
		return nil, &TooLargeError{f.o.MaxBytes}
	}
	body := &shown{r: resp.Body, total: max(resp.ContentLength, 0), show: show}
	n := &note{ETag: etag, LastModified: resp.Header.Get("Last-Modified"), Settled: settled(resp.Header)}
	if err := f.save(n, r.Digest, body); err != nil {
		return nil, cause(ctx, err)
	}
	return n, nil
}

// settled reports whether a later change of the file would have another modification
// time, which has a resolution of one second.
func settled(h http.Header) bool {
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	return err == nil && now.Sub(modified) > 2*time.Second
}

// save writes a body to a blob and sets the digest of n. It discards a body whose digest is
// not the wanted one, if that is not "".
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
		return fmt.Errorf("digest mismatch: got %s, expected %s (--checksum)", n.Digest, want)
	}
	return w.Commit(n.Digest)
}

// send sends a request, which is conditional if old is not nil.
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
	client := http.Client{Transport: f.watched, CheckRedirect: redirect}
	resp, err := client.Do(req)
	var failed *url.Error
	if errors.As(err, &failed) { // its text contains the URL with its password
		err = failed.Err
	}
	return resp, err
}

// authorize adds credentials from the secrets for the host. Like BuildKit it prefers a
// token to a header.
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
			return fmt.Errorf("secret %s: a header cannot have several lines", s.id)
		}
		req.Header.Set("Authorization", value)
	}
	return nil
}

// redirect allows redirects to http and https URLs. It removes credentials on a redirect
// to another host, and from https to http.
func redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("more than 10 redirects")
	}
	if err := checkURL(req.URL); err != nil {
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
	return u, checkURL(u)
}

// checkURL returns an error for a URL that cannot be fetched.
func checkURL(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("scheme %q: only http and https are supported", u.Scheme)
	}
	if u.Host == "" {
		return errors.New("the URL has no host")
	}
	return nil
}

// FileName returns the name that ADD gives the file of a URL: the last element of the
// path.
func FileName(at string) string {
	name := "__unnamed__"
	if u, err := url.Parse(at); err == nil {
		if base := path.Base(u.Path); base != "." && base != "/" {
			name = base
		}
	}
	return safe(name)
}

// safe returns a name that is a single path element.
func safe(name string) string {
	name = path.Base(strings.TrimSpace(name))
	if name == "" || name == "." || name == ".." || name == "/" || strings.ContainsFunc(name, control) {
		return "download"
	}
	return name
}
