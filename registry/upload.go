package registry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/transport"
)

// An upload sends one blob, in one attempt or several. The first attempt sends
// the blob in one request, which all registries accept and which is cheapest. An
// interrupted upload is resumed at the offset that the registry reports, in
// chunks, so that the chunks before another interruption are not lost.
type upload struct {
	repo     *repository
	blob     layer.Descriptor
	src      Source
	progress func(int64)
	unasked  bool // send the blob without asking whether the registry has it

	location *url.URL // of an upload that has started; nil for none
	offset   int64    // number of bytes that the registry has
	tried    bool     // to send the blob in one request
	chunking bool     // the last attempt was in chunks
	restarts int      // since the registry rejected chunks
}

// chunkSize is the size of a request in bytes if a blob cannot be sent in one.
const chunkSize = 16 << 20

// run uploads the blob, with retries.
func (u *upload) run(ctx context.Context) error {
	retries := u.repo.Retries()
	var retried int64 // offset at which retries started to count
	for {
		err := u.attempt(ctx)
		if err == nil {
			u.repo.dest.blobs.Store(u.blob.Digest, u.repo.repo)
			return nil
		}
		if u.restart(err) {
			continue
		}
		if u.offset >= retried+goodProgress {
			retries.Reset()
			retried = u.offset
		}
		if retries.Wait(ctx, err) != nil {
			return err
		}
	}
}

func (u *upload) attempt(ctx context.Context) error {
	if u.location != nil {
		if err := u.inquire(ctx); err != nil {
			return err
		}
	}
	if u.location == nil {
		location, err := u.begin(ctx)
		if err != nil || location == nil {
			return err
		}
		u.location, u.offset = location, 0
	}
	u.chunking = u.offset > 0 || u.tried && !u.repo.dest.noChunks.Load()
	if !u.chunking {
		u.tried = true
		return u.finish(ctx, u.blob.Size)
	}
	return u.sendChunks(ctx)
}

// begin starts the upload. It returns nil if the repository has the blob.
func (u *upload) begin(ctx context.Context) (*url.URL, error) {
	if u.unasked {
		_, location, err := u.repo.start(ctx, false, nil)
		return location, err
	}
	return u.repo.begin(ctx, u.blob, u.repo.mountFrom(u.blob, u.src))
}

// restart reports whether to start again at once after err, because the registry
// rejects chunks, or has dropped the upload, or accepts only chunks.
func (u *upload) restart(err error) bool {
	status := transport.Status(err)
	if u.location == nil || status < 400 || status >= 500 || u.restarts == 2 {
		return false
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooManyRequests, 499:
		return false
	case http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable: // it was dropped, or has other bytes than reported
	case http.StatusRequestEntityTooLarge:
		if u.offset > 0 || u.blob.Size <= u.chunk() {
			return false
		}
	default:
		if !u.chunking {
			return false
		}
		u.repo.dest.noChunks.Store(true)
	}
	u.restarts++
	u.location = nil
	return true
}

// inquire asks for the offset of an interrupted upload. If the registry has
// dropped the upload, the next attempt starts a new one.
func (u *upload) inquire(ctx context.Context) error {
	resp, err := u.repo.Do(ctx, u.request(http.MethodGet, u.location))
	status := transport.Status(err)
	if err != nil && (status == 0 || status == http.StatusUnauthorized || status == http.StatusForbidden) {
		return err
	}
	if err != nil {
		u.location = nil
		return nil
	}
	resp.Body.Close()
	u.offset = min(storedBytes(resp), u.blob.Size)
	if resp.Header.Get("Location") != "" {
		u.location, err = u.repo.Location(resp)
	}
	return err
}

// storedBytes returns the number of bytes that the registry has according to its
// Range header. "0-0" may mean one byte or none; the byte is sent again.
func storedBytes(resp *http.Response) int64 {
	var from, to int64
	if n, _ := fmt.Sscanf(resp.Header.Get("Range"), "%d-%d", &from, &to); n != 2 || from != 0 || to <= 0 {
		return 0
	}
	return to + 1
}

func (u *upload) request(method string, location *url.URL) transport.Request {
	r := u.repo.request(method, "")
	r.URL = location
	return r
}

func (u *upload) chunk() int64 {
	return max(cmp.Or(u.repo.chunk, chunkSize), u.repo.dest.minChunk.Load())
}

// sendChunks sends the missing bytes in chunks, one after the other.
func (u *upload) sendChunks(ctx context.Context) error {
	for u.offset < u.blob.Size {
		n := min(u.chunk(), u.blob.Size-u.offset)
		r := u.request(http.MethodPatch, u.location)
		r.Header = map[string]string{"Content-Range": fmt.Sprintf("%d-%d", u.offset, u.offset+n-1)}
		resp, err := u.send(ctx, r, n)
		if err != nil {
			return err
		}
		if stored := storedBytes(resp); stored > u.offset && stored < u.offset+n {
			n = stored - u.offset
		}
		u.offset += n
		if u.location, err = u.repo.Location(resp); err != nil {
			return err
		}
	}
	return u.finish(ctx, 0)
}

// finish sends the last n bytes and the digest. It is never retried as it is,
// since the registry may have stored some of the bytes.
func (u *upload) finish(ctx context.Context, n int64) error {
	location := *u.location
	q := location.Query()
	q.Set("digest", string(u.blob.Digest))
	location.RawQuery = q.Encode()
	_, err := u.send(ctx, u.request(http.MethodPut, &location), n)
	return err
}

// send sends n bytes of the blob from u.offset on.
func (u *upload) send(ctx context.Context, r transport.Request, n int64) (*http.Response, error) {
	var body *uploadBody
	if r.Header == nil {
		r.Header = map[string]string{}
	}
	r.Header["Content-Type"] = "application/octet-stream"
	r.Size, r.Once = n, true
	r.Body = func() (io.ReadCloser, error) {
		rc, err := u.open(n)
		if err != nil {
			return nil, err
		}
		last := u.offset+n == u.blob.Size
		body = &uploadBody{rc: rc, at: u.offset, end: u.offset + n, size: u.blob.Size, last: last, progress: u.progress}
		return body, nil
	}
	resp, err := u.repo.Do(ctx, r)
	if body != nil {
		if sourceErr := body.failure(); sourceErr != nil {
			return nil, transport.Permanent(sourceErr)
		}
	}
	if err != nil {
		return nil, err
	}
	return resp, resp.Body.Close()
}

// open opens the source at u.offset.
func (u *upload) open(n int64) (io.ReadCloser, error) {
	if n == 0 {
		return io.NopCloser(http.NoBody), nil
	}
	rc, err := u.src.Open()
	if err != nil || u.offset == 0 {
		return rc, err
	}
	if s, ok := rc.(io.Seeker); ok {
		_, err = s.Seek(u.offset, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, rc, u.offset)
	}
	if err != nil {
		rc.Close()
		return nil, fmt.Errorf("read the blob from byte %d: %w", u.offset, err)
	}
	return rc, nil
}

// An uploadBody is the part of a source from at to end. It reports progress, and
// keeps errors of the source apart from those of the network.
type uploadBody struct {
	rc            io.ReadCloser
	at, end, size int64
	last          bool // end is the end of the source
	progress      func(int64)

	mu  sync.Mutex // net/http may still read when it has returned an answer
	err error
}

func (b *uploadBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if left := b.end - b.at; !b.last && int64(len(p)) > left {
		if left == 0 {
			return 0, io.EOF
		}
		p = p[:left]
	}
	n, err := b.rc.Read(p)
	b.at += int64(n)
	switch {
	case b.at > b.end:
		err = fmt.Errorf("its source has more than the expected %d bytes", b.size)
	case err == io.EOF && b.at < b.end:
		err = fmt.Errorf("its source has %d of the expected %d bytes", b.at, b.size)
	}
	if err != nil && err != io.EOF {
		b.err = err
		return 0, err
	}
	if n > 0 && b.at < b.size { // the end counts once the registry has confirmed it
		b.progress(b.at)
	}
	return n, err
}

func (b *uploadBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *uploadBody) Close() error { return b.rc.Close() }
