package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/cairn-build/cairn/registry/transport"
)

// StreamUpload is the upload of a blob that is still being written, so that its
// digest is unknown: the blob is sent as one chunk of unknown length, as docker
// push sends layers. It may fail without consequences: [Push.Blob] with the same
// bytes as its [Source] completes the upload, resumes it, or starts another.
type StreamUpload struct {
	repo     *repository
	cancel   context.CancelFunc
	done     chan struct{} // closed when location and err are final
	location *url.URL      // of the upload; nil if none has started
	err      error

	sent atomic.Int64
	used atomic.Bool // by an upload, of which there may be one

	mu       sync.Mutex
	progress func(int64) // is called with the number of bytes sent; may be nil
}

// StartStream starts to upload the bytes of src until io.EOF, and then closes
// src. Another error of src makes the upload fail.
func (p *Push) StartStream(ctx context.Context, src io.ReadCloser) *StreamUpload {
	sending, cancel := context.WithCancel(ctx)
	s := &StreamUpload{repo: p.repo, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer src.Close()
		if s.err = s.begin(ctx); s.err == nil {
			s.err = s.send(sending, src)
		}
	}()
	return s
}

// Cancel cancels the upload and waits for its end. It does nothing if s is nil
// or the upload has ended.
func (s *StreamUpload) Cancel() {
	if s == nil {
		return
	}
	s.cancel()
	<-s.done
}

var errNoStream = errors.New("registry rejects uploads of unknown digest")

// begin starts the upload. Cancel does not interrupt it: the registry might then
// have an upload whose location is unknown.
func (s *StreamUpload) begin(ctx context.Context) (err error) {
	if s.repo.dest.noStream.Load() {
		return errNoStream
	}
	_, s.location, err = s.repo.start(ctx, true, nil)
	return err
}

func (s *StreamUpload) send(ctx context.Context, src io.ReadCloser) error {
	r := s.repo.request(http.MethodPatch, "")
	r.URL, r.Size, r.Once = s.location, -1, true
	r.Header = map[string]string{"Content-Type": "application/octet-stream"}
	body := io.NopCloser(&streamBody{s, src})
	r.Body = func() (io.ReadCloser, error) {
		if s.sent.Load() > 0 {
			return nil, errNoStream // the bytes cannot be sent twice
		}
		return body, nil
	}
	resp, err := s.repo.Do(ctx, r)
	if status := transport.Status(err); status > 0 && status < http.StatusInternalServerError {
		s.repo.dest.noStream.Store(true)
	}
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.Header.Get("Location") != "" {
		s.location, err = s.repo.Location(resp)
	}
	return err
}

// A streamBody counts the bytes that are sent.
type streamBody struct {
	s   *StreamUpload
	src io.Reader
}

func (b *streamBody) Read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	b.s.sent.Add(int64(n))
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.notify()
	return n, err
}

// setProgress makes progress the function to call with the number of bytes sent,
// and calls it; nil is for none.
func (s *StreamUpload) setProgress(progress func(int64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress = progress
	s.notify()
}

func (s *StreamUpload) notify() {
	if s.progress != nil {
		s.progress(s.sent.Load())
	}
}

// handOver waits for the end of the stream. If all bytes were sent, it finishes
// the upload with the digest and returns true. Otherwise u continues where the
// stream ended, or starts again if nothing was sent.
func (s *StreamUpload) handOver(ctx context.Context, u *upload) (done bool, err error) {
	s.setProgress(u.progress)
	defer s.setProgress(nil) // net/http may still read when it has returned an answer
	select {
	case <-s.done:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if u.location = s.location; u.location == nil {
		return false, nil
	}
	if s.err != nil || s.sent.Load() != u.blob.Size {
		return false, nil
	}
	u.offset = u.blob.Size
	if u.finish(ctx, 0) != nil {
		return false, nil
	}
	s.repo.dest.blobs.Store(u.blob.Digest, s.repo.repo)
	return true, nil
}

// discard cancels an upload that turned out to be unnecessary, here and at the
// registry.
func (s *StreamUpload) discard(ctx context.Context) {
	s.Cancel()
	if s.location != nil {
		s.repo.cancelUpload(ctx, s.location)
	}
}

// stream returns the upload of a source that has started in this repository.
func (r *repository) stream(src Source) *StreamUpload {
	if src.Stream == nil || src.Stream.repo != r {
		return nil
	}
	return src.Stream
}
