package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
)

// origin is the place from which a blob is fetched if the store does not have it.
type origin struct {
	ref      string      // of an image in a registry that has the blob; "" for none
	cache    RemoteCache // has the blob if it is not nil
	fetched  func()      // called when the store has the blob; may be nil
	transfer *transfer
}

// RemoteCache is a build cache outside of the store that has layers.
type RemoteCache interface {
	String() string
	// Open opens a blob of the cache. The reader verifies the digest.
	Open(ctx context.Context, b layer.Descriptor) (io.ReadCloser, error)
}

// GoneError reports that a remote cache lists a layer that it no longer has.
type GoneError struct {
	Cache string
	Err   error
}

func (e *GoneError) Error() string { return fmt.Sprintf("cache %s: %v", e.Cache, e.Err) }

// Unwrap returns the error of the registry.
func (e *GoneError) Unwrap() error { return e.Err }

// Cached returns a layer that a step built at the given time and whose blob is in a
// remote cache. ref is the image in a registry that holds the cache, or "". Fetched is
// called once the store has the blob.
func (m *Manager) Cached(b layer.Descriptor, created time.Time, c RemoteCache, ref string, fetched func()) *Layer {
	l := m.Stored(b, created)
	l.origin = &origin{ref: ref, cache: c, fetched: fetched, transfer: m.cacheTransfer(c)}
	return l
}

// cacheTransfer returns the display of fetches from a cache.
func (m *Manager) cacheTransfer(c RemoteCache) *transfer {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.transfers {
		if t.cache == c {
			return t
		}
	}
	t := &transfer{cache: c, vertex: m.Progress.LateVertex("fetching from cache " + c.String()), done: true}
	m.transfers = append(m.transfers, t)
	return t
}

// openOrigin opens a blob at its origin.
func (m *Manager) openOrigin(ctx context.Context, o *origin, b layer.Descriptor) (io.ReadCloser, error) {
	if o.cache == nil {
		lost := ""
		if m.Store.Origin(b.Digest) == "" {
			if _, err := m.Store.Image(o.ref); err == nil { // it was built here, or pulled as a whole
				lost = fmt.Sprintf("layer %s of image %s is missing from the store", b.Digest, reference.Familiar(o.ref))
				m.Progress.Warn("%s: asking the registry of that name for it", lost)
			}
		}
		r, err := m.Registry.OpenBlob(ctx, o.ref, b)
		if err != nil && ctx.Err() == nil && lost != "" {
			err = fmt.Errorf("%s: build or pull the image again: %w", lost, err)
		}
		return r, err
	}
	r, err := o.cache.Open(ctx, b)
	if err != nil && (errors.Is(err, registry.ErrNotFound) || o.ref == "") {
		err = &GoneError{o.cache.String(), err}
	}
	return r, err
}

// transfer displays the fetches of the layers of one image or cache.
type transfer struct {
	vertex *progress.Vertex
	cache  RemoteCache // nil for an image

	mu     sync.Mutex
	active int
	done   bool // the vertex has ended
}

// begin displays a fetch until the function that it returns is called.
func (t *transfer) begin() (end func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active++
	t.vertex.Start()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.active--; t.active == 0 {
			t.done = true
			t.vertex.Done(nil)
		}
	}
}

// finish ends the display of an image of which no layer was fetched.
func (t *transfer) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.done {
		t.vertex.Cached()
	}
}

// read calls f with the layer's uncompressed tar, and verifies its diff ID. A blob that
// the store does not have is fetched and kept.
func (l *Layer) read(ctx context.Context, b layer.Descriptor, f func(io.Reader) error) error {
	raw, err := l.m.Store.OpenBlob(b.Digest)
	if errors.Is(err, fs.ErrNotExist) && l.origin != nil {
		return l.fetch(ctx, b, f)
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", b.Digest, err)
	}
	defer raw.Close()
	err = Uncompress(b, raw, f)
	if err != nil && ctx.Err() == nil {
		if bad := l.m.Store.VerifyBlob(b.Digest); bad != nil {
			return bad
		}
	}
	return err
}

// fetch is read for a blob at its origin.
func (l *Layer) fetch(ctx context.Context, b layer.Descriptor, f func(io.Reader) error) error {
	shown := l.origin.transfer
	defer shown.begin()()
	defer l.m.Progress.Span("layers that come in", progress.Work, "fetches "+string(b.Digest))()
	body, err := l.m.openOrigin(ctx, l.origin, b)
	if err != nil {
		return err
	}
	defer body.Close()
	kept, err := l.m.Store.NewBlob()
	if err != nil {
		return err
	}
	defer kept.Close()
	counted := progress.Counted(body, func(n int64) { shown.vertex.Status(string(b.Digest), n, b.Size) })
	if err := Uncompress(b, io.TeeReader(counted, kept), f); err != nil {
		return err
	}
	shown.vertex.StatusDone(string(b.Digest))
	if err := kept.Commit(b.Digest); err != nil {
		return err
	}
	if err := l.m.Store.AddLayer(b); err != nil {
		return err
	}
	if l.origin.fetched != nil {
		l.origin.fetched()
	}
	return nil
}

// Uncompress calls f with the tar of the compressed layer raw. It reads both to their
// ends, whether f does or not, and verifies the diff ID if b has one.
func Uncompress(b layer.Descriptor, raw io.Reader, f func(io.Reader) error) error {
	tar, err := compress.NewReader(raw)
	if err != nil {
		return fmt.Errorf("layer %s: %w", b.Digest, err)
	}
	defer tar.Close()
	h := sha256.New()
	in := io.TeeReader(tar, h)
	if err := f(in); err != nil {
		return fmt.Errorf("layer %s: %w", b.Digest, err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fmt.Errorf("layer %s: %w", b.Digest, err)
	}
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return fmt.Errorf("layer %s: %w", b.Digest, err)
	}
	if got := layer.FromHash(h); b.DiffID != "" && got != b.DiffID {
		return fmt.Errorf("layer %s holds %s, its image's config says %s", b.Digest, got, b.DiffID)
	}
	return nil
}
