package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
)

// Ahead is the upload of a blob whose digest is not known yet, because it is
// still being written: the blob streams into one chunk without end, as docker
// push has always sent layers. It is an attempt: whatever becomes of it,
// [Push.Blob] with the same source makes sure that the blob is there, and goes
// on from where this ended.
type Ahead struct {
	r        *repository
	cancel   context.CancelFunc
	done     chan struct{} // closed when what follows holds
	location *url.URL      // of the upload; nil: none has begun
	err      error

	sent  atomic.Int64
	taken atomic.Bool // by a transfer, of which there may be one

	mu       sync.Mutex
	progress func(int64) // is told of what was sent; nil for nobody
}

// Ahead begins to upload what src gives until io.EOF, and then closes src. Any
// other error of src ends the upload in vain.
func (p *Push) Ahead(ctx context.Context, src io.ReadCloser) *Ahead {
	sending, cancel := context.WithCancel(ctx)
	a := &Ahead{r: p.repo, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		defer src.Close()
		if a.err = a.begin(ctx); a.err == nil {
			a.err = a.run(sending, src)
		}
	}()
	return a
}

// Drop ends an upload that nobody waits for any more.
func (a *Ahead) Drop() {
	if a == nil {
		return
	}
	a.cancel()
	<-a.done
}

var errNotAhead = errors.New("the registry takes no blob before its digest is known")

// begin is not broken off by Drop: the registry might then have an upload that
// nobody can take back.
func (a *Ahead) begin(ctx context.Context) (err error) {
	if a.r.h.notAhead.Load() {
		return errNotAhead
	}
	_, a.location, err = a.r.start(ctx, true, nil)
	return err
}

func (a *Ahead) run(ctx context.Context, src io.ReadCloser) error {
	h := a.r.h
	body := io.NopCloser(&aheadBody{a, src})
	resp, err := h.do(ctx, call{
		method: http.MethodPatch, url: a.location, repo: a.r.name, scopes: pushScope(a.r.name),
		header: map[string]string{"Content-Type": "application/octet-stream"},
		size:   -1, once: true,
		body: func() (io.ReadCloser, error) {
			if a.sent.Load() > 0 {
				return nil, errNotAhead // it can't be sent twice
			}
			return body, nil
		},
	})
	if status := (*statusError)(nil); errors.As(err, &status) && status.status < 500 {
		h.notAhead.Store(true)
	}
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.Header.Get("Location") != "" {
		a.location, err = h.location(resp)
	}
	return err
}

// aheadBody counts what is sent.
type aheadBody struct {
	a   *Ahead
	src io.Reader
}

func (b *aheadBody) Read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	b.a.sent.Add(int64(n))
	b.a.mu.Lock()
	defer b.a.mu.Unlock()
	b.a.told()
	return n, err
}

// tell tells another of what was and will be sent; nil is nobody.
func (a *Ahead) tell(progress func(int64)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.progress = progress
	a.told()
}

func (a *Ahead) told() {
	if a.progress != nil {
		a.progress(a.sent.Load())
	}
}

// take has a transfer begin where the upload ended: with its name if all is
// there, else with what is missing. Of one that nothing came of it begins anew.
func (a *Ahead) take(ctx context.Context, t *transfer) (done bool, err error) {
	a.tell(t.progress)
	defer a.tell(nil) // net/http may still read when it has an answer
	select {
	case <-a.done:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if t.location = a.location; t.location == nil {
		return false, nil
	}
	if a.err != nil || a.sent.Load() != t.blob.Size {
		return false, nil
	}
	t.at = t.blob.Size
	if t.finish(ctx, 0) != nil {
		return false, nil
	}
	a.r.h.blobs.Store(t.blob.Digest, a.r.name)
	return true, nil
}

// forget takes an upload back that turned out to be for nothing.
func (a *Ahead) forget(ctx context.Context) {
	a.Drop()
	if a.location != nil {
		a.r.takeBack(ctx, a.location)
	}
}

// ahead is the upload of a source that has begun in the repository.
func (r *repository) ahead(src Source) *Ahead {
	if src.Ahead == nil || src.Ahead.r != r {
		return nil
	}
	return src.Ahead
}
