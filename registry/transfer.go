package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/cairn-build/cairn/layer"
)

// A transfer is the upload of one blob, over as many attempts as it takes. The
// first sends the blob in one request, which every registry takes and which
// costs least. What breaks off is taken up where the registry says it is, and
// goes on in chunks, each of which is there for good.
type transfer struct {
	r        *repository
	blob     layer.Blob
	src      Source
	progress func(int64)

	location *url.URL // of an upload that has begun; nil for none
	at       int64    // how many bytes of it the registry has
	tried    bool     // to send the blob in one request
	chunking bool     // the last attempt was in chunks
	restarts int      // because of chunks that the registry would not take
}

// chunkSize is that of one request once a blob did not pass in one.
const chunkSize = 16 << 20

func newTransfer(r *repository, b layer.Blob, src Source, progress func(int64)) *transfer {
	return &transfer{r: r, blob: b, src: src, progress: progress}
}

// run tries until the blob is there, or there is no hope.
func (t *transfer) run(ctx context.Context) error {
	tries := retries{h: t.r.h}
	var reached int64 // since when tries count
	for {
		err := t.attempt(ctx)
		if err == nil {
			t.r.h.blobs.Store(t.blob.Digest, t.r.name)
			return nil
		}
		if t.restart(err) {
			continue
		}
		if t.at >= reached+goodProgress {
			tries.done, reached = 0, t.at
		}
		if again := tries.again(ctx, err); again != nil {
			return err
		}
	}
}

func (t *transfer) attempt(ctx context.Context) error {
	if t.location != nil {
		if err := t.inquire(ctx); err != nil {
			return err
		}
	}
	if t.location == nil {
		location, err := t.r.begin(ctx, t.blob, t.r.mountFrom(t.blob, t.src))
		if err != nil || location == nil {
			return err
		}
		t.location, t.at = location, 0
	}
	t.chunking = t.at > 0 || t.tried && !t.r.h.noChunks.Load()
	if !t.chunking {
		t.tried = true
		return t.finish(ctx, t.blob.Size)
	}
	return t.chunks(ctx)
}

// restart says whether to begin anew at once after err, since the registry
// takes no chunks, or has dropped the upload, or takes nothing but chunks.
func (t *transfer) restart(err error) bool {
	var e *statusError
	if t.location == nil || !errors.As(err, &e) || e.status < 400 || e.status >= 500 || t.restarts == 2 {
		return false
	}
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooManyRequests, 499:
		return false
	case http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable: // it is gone, or has other bytes than it said
	case http.StatusRequestEntityTooLarge:
		if t.at > 0 || t.blob.Size <= t.chunk() {
			return false
		}
	default:
		if !t.chunking {
			return false
		}
		t.r.h.noChunks.Store(true)
	}
	t.restarts++
	t.location = nil
	return true
}

// inquire asks how far an upload has come that broke off. One that the
// registry has forgotten is begun anew.
func (t *transfer) inquire(ctx context.Context) error {
	resp, err := t.r.h.do(ctx, t.call(http.MethodGet, t.location))
	if hasStatus(err, http.StatusUnauthorized, http.StatusForbidden) || err != nil && !errors.As(err, new(*statusError)) {
		return err
	}
	if err != nil {
		t.location = nil
		return nil
	}
	resp.Body.Close()
	t.at = min(stored(resp), t.blob.Size)
	if resp.Header.Get("Location") != "" {
		t.location, err = t.r.h.location(resp)
	}
	return err
}

// stored is how many bytes an answer says are there. "0-0" may mean one or
// none; the byte is sent once more.
func stored(resp *http.Response) int64 {
	var from, to int64
	if n, _ := fmt.Sscanf(resp.Header.Get("Range"), "%d-%d", &from, &to); n != 2 || from != 0 || to <= 0 {
		return 0
	}
	return to + 1
}

func (t *transfer) call(method string, u *url.URL) call {
	return call{method: method, url: u, repo: t.r.name, scopes: pushScope(t.r.name)}
}

func (t *transfer) chunk() int64 { return max(cmp.Or(t.r.chunk, chunkSize), t.r.h.leastChunk.Load()) }

// chunks sends what is missing, one chunk after the other.
func (t *transfer) chunks(ctx context.Context) error {
	for t.at < t.blob.Size {
		n := min(t.chunk(), t.blob.Size-t.at)
		c := t.call(http.MethodPatch, t.location)
		c.header = map[string]string{"Content-Range": fmt.Sprintf("%d-%d", t.at, t.at+n-1)}
		resp, err := t.send(ctx, c, n)
		if err != nil {
			return err
		}
		if there := stored(resp); there > t.at && there < t.at+n {
			n = there - t.at
		}
		t.at += n
		if t.location, err = t.r.h.location(resp); err != nil {
			return err
		}
	}
	return t.finish(ctx, 0)
}

// finish names the upload by its digest, with the last n bytes. It is never
// repeated as it is: the registry may have kept some of them.
func (t *transfer) finish(ctx context.Context, n int64) error {
	u := *t.location
	q := u.Query()
	q.Set("digest", string(t.blob.Digest))
	u.RawQuery = q.Encode()
	_, err := t.send(ctx, t.call(http.MethodPut, &u), n)
	return err
}

// send sends n bytes of the blob from t.at on.
func (t *transfer) send(ctx context.Context, c call, n int64) (*http.Response, error) {
	var body *uploadBody
	if c.header == nil {
		c.header = map[string]string{}
	}
	c.header["Content-Type"] = "application/octet-stream"
	c.size, c.once = n, true
	c.body = func() (io.ReadCloser, error) {
		rc, err := t.open(n)
		if err != nil {
			return nil, err
		}
		last := t.at+n == t.blob.Size
		body = &uploadBody{rc: rc, at: t.at, end: t.at + n, size: t.blob.Size, last: last, progress: t.progress}
		return body, nil
	}
	resp, err := t.r.h.do(ctx, c)
	if body != nil {
		if serr := body.failure(); serr != nil {
			return nil, &permanent{serr}
		}
	}
	if err != nil {
		return nil, err
	}
	return resp, resp.Body.Close()
}

// open opens the source where t.at is.
func (t *transfer) open(n int64) (io.ReadCloser, error) {
	if n == 0 {
		return io.NopCloser(http.NoBody), nil
	}
	rc, err := t.src.Open()
	if err != nil || t.at == 0 {
		return rc, err
	}
	if s, ok := rc.(io.Seeker); ok {
		_, err = s.Seek(t.at, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, rc, t.at)
	}
	if err != nil {
		rc.Close()
		return nil, fmt.Errorf("its source: %w", err)
	}
	return rc, nil
}

// uploadBody is the part of a source from at to end. It tells how far it has
// come, and keeps an error of the source apart from those of the network.
type uploadBody struct {
	rc            io.ReadCloser
	at, end, size int64
	last          bool // nothing of the source follows
	progress      func(int64)

	mu  sync.Mutex // net/http may still read when it has an answer
	err error
}

func (u *uploadBody) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if left := u.end - u.at; !u.last && int64(len(p)) > left {
		if left == 0 {
			return 0, io.EOF
		}
		p = p[:left]
	}
	n, err := u.rc.Read(p)
	u.at += int64(n)
	switch {
	case u.at > u.end:
		err = fmt.Errorf("its source has more than the %d bytes it should have", u.size)
	case err == io.EOF && u.at < u.end:
		err = fmt.Errorf("its source has %d bytes fewer than the %d it should have", u.size-u.at, u.size)
	}
	if err != nil && err != io.EOF {
		u.err = err
		return 0, err
	}
	if n > 0 {
		u.progress(u.at)
	}
	return n, err
}

func (u *uploadBody) failure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

func (u *uploadBody) Close() error { return u.rc.Close() }
