package worker

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Layer is one layer of a result: a promise of what it says of each path, of
// its tree and of its compressed blob. None is made until someone asks.
type Layer struct {
	w       *Worker
	image   *Image    // that it is a part of; nil for layers that were built
	from    string    // reference of an image in a registry that has the blob; "" when this machine made it
	away    *away     // in a cache that was made elsewhere; nil for others
	created time.Time // of a layer that was built; zero for those of images

	fresh   *work         // guarded by mu: what a step of this build made, until the blob is there
	settled chan struct{} // closed when blob and err hold; from the start for stored layers
	blob    layer.Blob
	err     error

	mu    sync.Mutex // one fetch or unpacking at a time
	index lazy[*index.Index]
	tree  string // its directory, once there is one
}

// work is what a step made: changes, and the tree that they were read from if
// the step ran in one.
type work struct {
	changes changes
	tree    *store.Tree // nil: none yet
	plain   *plainTree  // in which the step ran, if it did
	close   []func()    // lets go of what the changes are read from
}

// storedLayer is a layer whose blob is known: in the store or, for one of an
// image, in a registry.
func (w *Worker) storedLayer(b layer.Blob, created time.Time) *Layer {
	l := &Layer{w: w, created: created, blob: b, settled: make(chan struct{})}
	close(l.settled)
	return l
}

// Blob describes the layer's compressed form. It waits for the pipeline, not
// for a download.
func (l *Layer) Blob(ctx context.Context) (layer.Blob, error) {
	select {
	case <-l.settled:
		return l.blob, l.err
	case <-ctx.Done():
		return layer.Blob{}, context.Cause(ctx)
	}
}

// Created is when the layer was built; zero for layers of images.
func (l *Layer) Created() time.Time { return l.created }

// From is the reference that the layer's blob can be fetched from; "" when this
// machine built it.
func (l *Layer) From() string { return l.from }

// Open reads the layer's compressed bytes, verified, from the store or, without
// keeping them, from its registry.
func (l *Layer) Open(ctx context.Context) (io.ReadCloser, error) {
	b, err := l.Blob(ctx)
	if err != nil {
		return nil, err
	}
	f, err := l.w.Store.OpenVerified(b.Digest)
	if err == nil || !l.elsewhere() {
		return f, err
	}
	return l.fetch(ctx, b)
}

// Names says what the layer has at each path, as soon as that is known: of a
// step that has just ended, without the digests of its files.
func (l *Layer) Names(ctx context.Context) (*index.Index, error) {
	if x, err := l.names(); x != nil || err != nil {
		return x, err
	}
	return l.Index(ctx)
}

// names tells Names from a step's changes; nil when the blob is there.
func (l *Layer) names() (*index.Index, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fresh == nil {
		return nil, nil
	}
	x := &index.Index{Entries: make([]index.Entry, 0, l.fresh.changes.len())}
	for c := range l.fresh.changes.all() {
		x.Entries = append(x.Entries, c.Entry)
		if err := fillContent(&x.Entries[len(x.Entries)-1], c); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// release lets go of the changes and what they were read from: from here on the
// blob serves in their place.
func (l *Layer) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fresh.release()
	l.fresh = nil
}

func (m *work) release() {
	for _, f := range m.close {
		f()
	}
	m.close = nil
}

// fillContent reads the files whose bytes an index carries: names of users must
// be found before the layer is written.
func fillContent(e *index.Entry, c tarball.Change) error {
	if !index.CarriesContent(e.Path) || e.Type != index.TypeFile || e.Size == 0 || e.Size > index.MaxContent {
		return nil
	}
	f, err := c.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	e.Content, err = io.ReadAll(io.LimitReader(f, index.MaxContent))
	if err != nil {
		return fmt.Errorf("reading %s: %w", e.Path, err)
	}
	return nil
}

// Index says what the layer has at each path, with digests. It waits for the
// pipeline; for a layer that nobody has read yet it streams the blob once,
// keeping it and unpacking nothing.
func (l *Layer) Index(ctx context.Context) (*index.Index, error) {
	b, err := l.Blob(ctx)
	if err != nil {
		return nil, err
	}
	return l.index.get(func() (*index.Index, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if x, err := l.w.Store.Index(b.DiffID); err == nil {
			return x, nil
		}
		if x := l.w.importedIndex(ctx, b.DiffID); x != nil {
			return x, nil
		}
		var x *index.Index
		limits, name := l.w.Limits.layer(b)
		err := l.stream(ctx, b, func(r io.Reader) (err error) {
			x, err = tarball.Scan(r, limits)
			return allowMore(err, name)
		})
		if err != nil {
			return nil, err
		}
		return x, l.w.Store.PutIndex(b.DiffID, x)
	})
}
