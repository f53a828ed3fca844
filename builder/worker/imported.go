package worker

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/registry"
)

// GoneError says that a cache lists a layer that is not there any more.
type GoneError struct {
	Where remote.Where
	Err   error
}

func (e *GoneError) Error() string { return fmt.Sprintf("cache %s: %v", e.Where, e.Err) }

// Unwrap gives what the registry said.
func (e *GoneError) Unwrap() error { return e.Err }

// away is a layer in a cache that was made elsewhere.
type away struct {
	cache  *remote.Cache
	record cache.Record
	shown  *fetching
}

func (w *Worker) imports(ctx context.Context) []*remote.Cache {
	if w.Imports == nil {
		return nil
	}
	return w.Imports(ctx)
}

// imported finds a result in the caches that were made elsewhere. It is not
// filed here before its layer is.
func (w *Worker) imported(s *solve.Step, key solve.Key) (*Result, bool) {
	for _, c := range w.imports(w.ctx) {
		rec, ok := c.Record(string(key))
		if !ok {
			continue
		}
		if r, ok := w.fromRecord(s, &rec, c); ok {
			return r, true
		}
	}
	return nil, false
}

// importedIndex gives what a cache made elsewhere says of a layer; nil is
// nothing. It holds for this build alone: who writes that cache has no say in
// what others believe of a layer.
func (w *Worker) importedIndex(ctx context.Context, diffID layer.Digest) *index.Index {
	for _, c := range w.imports(ctx) {
		if !c.HasIndex(diffID) {
			continue
		}
		x, err := c.Index(ctx, diffID)
		if err == nil {
			return x
		}
		if ctx.Err() == nil {
			w.Progress.Warn("%v: reading the layer itself", err)
		}
	}
	return nil
}

// lieIn makes a layer one that lies in a cache.
func (w *Worker) lieIn(l *Layer, c *remote.Cache, rec cache.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, ok := w.fetches[c]
	if !ok {
		f = &fetching{vertex: w.Progress.Vertex("fetching from cache " + c.String())}
		w.fetches[c] = f
	}
	l.away, l.from = &away{c, rec, f}, c.Ref
}

// elsewhere tells whether the blob can be had when the store has none.
func (l *Layer) elsewhere() bool { return l.from != "" || l.away != nil }

// fetch opens the blob where it lies.
func (l *Layer) fetch(ctx context.Context, b layer.Blob) (io.ReadCloser, error) {
	if l.away == nil {
		return l.w.Registry.OpenBlob(ctx, l.from, b)
	}
	r, err := l.away.cache.Open(ctx, b)
	if err != nil && (errors.Is(err, registry.ErrNotFound) || l.from == "") {
		err = &GoneError{l.away.cache.Where, err}
	}
	return r, err
}

// shown is where the fetching of the layer is shown.
func (l *Layer) shown() *fetching {
	if l.away != nil {
		return l.away.shown
	}
	return &l.image.fetching
}

// arrived files the record of a layer of a cache, now that the store has it.
func (l *Layer) arrived() {
	if l.away == nil {
		return
	}
	if err := l.w.Cache.Put(l.away.record.Key, l.away.record); err != nil {
		l.w.Progress.Warn("filing the result of %s: %v", l.away.record.Name, err)
	}
}

// Known is the result of a step that the store or a cache has, for a cache to be
// written; ok is false if none is to be had.
func (w *Worker) Known(ctx context.Context, s *solve.Step, key solve.Key) (known remote.Known, ok bool) {
	r, ok := w.load(s, key)
	if !ok {
		return known, false
	}
	rec, found := w.record(key)
	if !found {
		return known, false
	}
	known = remote.Known{Keys: []string{string(key)}, Record: rec}
	if len(rec.Layers) == 0 {
		return known, true
	}
	l := r.layer
	b, err := w.travels(ctx, s, l)
	if err != nil {
		return known, false
	}
	known.Record.Layers = []layer.Blob{b}
	known.Source = registry.Source{From: l.From(), Open: func() (io.ReadCloser, error) {
		if f, err := w.Store.OpenVerified(b.Digest); err == nil {
			return f, nil
		}
		return l.Open(ctx)
	}}
	return known, true
}

// travels gives a layer's blob as others are to have it: of a step that ships as
// in the image, of others as it is kept.
func (w *Worker) travels(ctx context.Context, s *solve.Step, l *Layer) (layer.Blob, error) {
	if w.Ships(s) {
		return w.Shipped(ctx, l)
	}
	return l.Blob(ctx)
}

// record gives what is filed under a key, here or elsewhere.
func (w *Worker) record(key solve.Key) (cache.Record, bool) {
	if rec, err := w.Cache.Get(string(key)); err == nil {
		return *rec, true
	}
	for _, c := range w.imports(w.ctx) {
		if rec, ok := c.Record(string(key)); ok {
			return rec, true
		}
	}
	return cache.Record{}, false
}

// IsRoot tells whether a step is an image, a context or the empty tree, which no
// cache keeps.
func IsRoot(s *solve.Step) bool {
	switch plan.Kind(s) {
	case "scratch", "image", "context":
		return true
	}
	return len(s.In) == 0
}
