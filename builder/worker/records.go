package worker

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
)

// records finds the results of steps in the store and in remote caches, and files new
// ones.
type records struct {
	ctx     context.Context // of the build
	cache   *cache.Cache
	store   *store.Store
	layers  *snapshot.Manager
	display *display
	remote  func() []*remote.Cache
	found   func(*solve.Step, *cache.Record, *remote.Cache) // called with each record that is used, and the remote cache that has it; may be nil

	mu     sync.Mutex
	loaded map[solve.Key]*Result
}

// load returns the result that is stored under key. A record is usable if all its layers
// and those of the results below can be obtained.
func (c *records) load(s *solve.Step, key solve.Key) (*Result, bool) {
	c.mu.Lock()
	r, ok := c.loaded[key]
	c.mu.Unlock()
	if ok {
		return r, true
	}
	rec, err := c.cache.Get(string(key))
	if err == nil {
		r, ok = c.restore(s, rec, nil)
	}
	if ok && c.found != nil {
		c.found(s, rec, nil)
	}
	if !ok {
		r, ok = c.loadRemote(s, key)
	}
	if !ok {
		c.display.missed(s)
		return nil, false
	}
	c.display.vertex(s).Cached()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded[key] = r
	return r, true
}

// loadRemote finds a result in the remote caches. It is recorded in the store when its layer
// has been fetched.
func (c *records) loadRemote(s *solve.Step, key solve.Key) (*Result, bool) {
	for _, from := range c.remote() {
		rec, ok := from.Record(string(key))
		if !ok {
			continue
		}
		if r, ok := c.restore(s, &rec, from); ok {
			if c.found != nil {
				c.found(s, &rec, from)
			}
			return r, true
		}
	}
	return nil, false
}

// restore returns the result of a record of step s: a layer, or a second stack, on the
// result below. from is the remote cache that has the record, or nil for the store.
func (c *records) restore(s *solve.Step, rec *cache.Record, from *remote.Cache) (*Result, bool) {
	below, ok := c.input(s.In[0].Step, solve.Key(rec.Below))
	if !ok {
		return nil, false
	}
	key := solve.Key(rec.Key)
	if rec.On != "" && !c.isOn(below, rec.On) {
		return nil, false
	}
	if len(rec.Layers) == 1 {
		l := c.layer(rec, from)
		if l == nil {
			return nil, false
		}
		return &Result{stack: below.stack.With(l), key: key}, true
	}
	if rec.Over == "" && len(rec.Layers) > 0 || len(s.In) < 2 {
		return nil, false
	}
	over, ok := c.input(s.In[1].Step, solve.Key(rec.Over))
	if !ok {
		return nil, false
	}
	return &Result{stack: below.stack.WithStack(over.stack), key: key}, true
}

// isOn reports whether a result has the layers with the given chain ID: its step may have
// been run again and made others.
func (c *records) isOn(r *Result, chain layer.Digest) bool {
	id, err := r.stack.ChainID(c.ctx)
	return err == nil && id == chain
}

// layer returns the layer of a record, or nil if neither the store nor from has it.
func (c *records) layer(rec *cache.Record, from *remote.Cache) *snapshot.Layer {
	b, created := rec.Layers[0], time.Unix(0, rec.Created).UTC()
	if _, ok := c.store.TouchBlob(b.Digest); ok {
		return c.layers.Stored(b, created)
	}
	if from == nil {
		return nil
	}
	own := *rec
	return c.layers.Cached(b, created, from, from.Ref, func() {
		if err := c.cache.Put(own.Key, own); err != nil {
			c.display.progress.Warn("cannot store the cached result of %s: %v", own.Name, err)
		}
	})
}

// input returns the result that a step's result was made on: a root, or the one that is
// stored under key.
func (c *records) input(s *solve.Step, key solve.Key) (*Result, bool) {
	switch op.Kind(s) {
	case "scratch":
		return &Result{stack: c.layers.Empty()}, true
	case "image":
		o, err := op.Decode(s)
		if err != nil {
			return nil, false
		}
		return c.image(o.(op.Image), c.display.vertex(s)), true
	}
	return c.load(s, key)
}

func (c *records) image(o op.Image, v *progress.Vertex) *Result {
	return &Result{stack: c.layers.Image(o.Extra.Layers, o.Extra.Ref, v)}
}

// stack puts the layers of input 1 on those of input 0, and records the result.
func (c *records) stack(j solve.Job[*Result]) *Result {
	c.put(j, cache.Record{Below: string(j.In[0].key), Over: string(j.In[1].key)})
	return &Result{stack: j.In[0].stack.WithStack(j.In[1].stack), key: j.Content}
}

// alias stores the record of content under key too.
func (c *records) alias(s *solve.Step, key, content solve.Key) {
	rec, err := c.cache.Get(string(content))
	if errors.Is(err, fs.ErrNotExist) {
		return // from a remote cache, not stored yet
	}
	if err == nil {
		err = c.cache.Put(string(key), *rec)
	}
	if err != nil { // the next build finds the result by its content
		c.display.progress.Warn("cannot store the cached result of %s under its new key: %v", c.display.steps[s].Name, err)
	}
}

// put stores a record under both keys of a job. If that fails, the next build runs the
// step again.
func (c *records) put(j solve.Job[*Result], rec cache.Record) {
	rec.Key, rec.Name, rec.Op, rec.Parts = string(j.Content), c.display.steps[j.Step].Name, j.Step.Op, j.Parts
	for _, key := range []solve.Key{j.Content, j.Recipe} {
		if err := c.cache.Put(string(key), rec); err != nil {
			c.display.progress.Warn("cannot store the cached result of %s: %v", rec.Name, err)
			return
		}
		if j.Recipe == j.Content {
			return
		}
	}
}

// find returns the record that is stored under a key, in the store or a remote cache.
func (c *records) find(key solve.Key) (cache.Record, bool) {
	if rec, err := c.cache.Get(string(key)); err == nil {
		return *rec, true
	}
	for _, from := range c.remote() {
		if rec, ok := from.Record(string(key)); ok {
			return rec, true
		}
	}
	return cache.Record{}, false
}

// export returns the result of a step for a remote cache: the layer of an exported step
// as in the image, of others as it is stored.
func (c *records) export(ctx context.Context, s *solve.Step, key solve.Key, exported bool) (known remote.Step, ok bool) {
	r, ok := c.load(s, key)
	if !ok {
		return known, false
	}
	rec, found := c.find(key)
	if !found {
		return known, false
	}
	known = remote.Step{Keys: []string{string(key)}, Record: rec}
	if len(rec.Layers) == 0 {
		return known, true
	}
	l := r.stack.Top()
	b, err := l.Blob(ctx)
	if exported {
		b, err = l.Variant(ctx, c.layers.Compression)
	}
	if err != nil {
		return known, false
	}
	known.Record.Layers = []layer.Descriptor{b}
	known.Source = registry.Source{From: l.Ref(), Open: func() (io.ReadCloser, error) { return l.OpenVariant(ctx, b) }}
	return known, true
}

// IsRoot reports whether a step is an image, a context or the empty tree, which caches
// do not keep.
func IsRoot(s *solve.Step) bool {
	switch op.Kind(s) {
	case "scratch", "image", "context":
		return true
	}
	return len(s.In) == 0
}
