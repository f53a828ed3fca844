package worker

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/index"
)

// Result is what a step gives: a tree, as a layer on the result below it, or a
// build context. The zero value is the empty tree.
type Result struct {
	below *Result
	layer *Layer
	key   solve.Key   // the content key that it is filed under; "" for roots
	dir   *source.Dir // of a context or a checkout; then there are no layers
	alone *file       // the one file that it is; then there are no layers
}

// Layers lists a tree's layers, bottom first.
func (r *Result) Layers() []*Layer {
	chain := r.chain()
	out := make([]*Layer, len(chain))
	for i, r := range chain {
		out[i] = r.layer
	}
	return out
}

// chain lists the results that each put one of the layers on top, bottom first.
func (r *Result) chain() (out []*Result) {
	for ; r != nil && r.layer != nil; r = r.below {
		out = append(out, r)
	}
	slices.Reverse(out)
	return out
}

// with puts one more layer on top.
func (r *Result) with(l *Layer, key solve.Key) *Result {
	return &Result{below: r, layer: l, key: key}
}

// views are the merged trees of a result: names as soon as they are known, full
// when the digests of all files are.
type views struct {
	names, full func(context.Context) (*index.View, error)
}

// View gives what a result's tree holds. Entries of layers that are still being
// written may lack digests.
func (w *Worker) View(ctx context.Context, r *Result) (*index.View, error) {
	return w.viewsOf(r).names(ctx)
}

// FullView is View with the digest of every file. It waits for pipelines.
func (w *Worker) FullView(ctx context.Context, r *Result) (*index.View, error) {
	return w.viewsOf(r).full(ctx)
}

func (w *Worker) viewsOf(r *Result) views {
	v, _ := w.views.do(r, func() (views, error) {
		return views{w.merger(r, (*Layer).Names, (*Worker).View), w.merger(r, (*Layer).Index, (*Worker).FullView)}, nil
	})
	return v
}

// merger makes the function that merges a layer onto the view below, once.
// Layers below are asked for at once: each may have to be streamed.
func (w *Worker) merger(r *Result, face func(*Layer, context.Context) (*index.Index, error),
	view func(*Worker, context.Context, *Result) (*index.View, error)) func(context.Context) (*index.View, error) {
	var m lazy[*index.View]
	return func(ctx context.Context) (*index.View, error) {
		return m.get(func() (*index.View, error) {
			if r == nil || r.layer == nil {
				return index.Empty(), nil
			}
			type answer struct {
				x   *index.Index
				err error
			}
			own := make(chan answer, 1)
			go func() {
				x, err := face(r.layer, ctx)
				own <- answer{x, err}
			}()
			below, err := view(w, ctx, r.below)
			a := <-own
			if err != nil {
				return nil, err
			}
			if a.err != nil {
				return nil, a.err
			}
			return below.With(a.x), nil
		})
	}
}

// lazy is a value made once, by the first who asks. An error is not kept: the
// next one tries again.
type lazy[V any] struct {
	mu   sync.Mutex
	done bool
	v    V
}

func (l *lazy[V]) get(f func() (V, error)) (V, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return l.v, nil
	}
	v, err := f()
	if err == nil {
		l.v, l.done = v, true
	}
	return v, err
}

// onceMap is a lazy value for each key.
type onceMap[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]*lazy[V]
}

func (o *onceMap[K, V]) do(key K, f func() (V, error)) (V, error) {
	o.mu.Lock()
	if o.m == nil {
		o.m = map[K]*lazy[V]{}
	}
	l, ok := o.m[key]
	if !ok {
		l = &lazy[V]{}
		o.m[key] = l
	}
	o.mu.Unlock()
	return l.get(f)
}

// forget makes the next who asks for key make its value anew.
func (o *onceMap[K, V]) forget(key K) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.m, key)
}

// Load implements [solve.Runner]: a record answers when every layer that it
// names, and those of the results below it, can be had.
func (w *Worker) Load(_ context.Context, s *solve.Step, key solve.Key) (*Result, solve.Key, bool) {
	r, ok := w.load(s, key)
	if !ok {
		return nil, "", false
	}
	return r, r.key, true
}

// load finds a result by its record, once for each key.
func (w *Worker) load(s *solve.Step, key solve.Key) (*Result, bool) {
	w.mu.Lock()
	r, ok := w.loaded[key]
	w.mu.Unlock()
	if ok {
		return r, true
	}
	rec, err := w.Cache.Get(string(key))
	if err == nil {
		r, ok = w.fromRecord(s, rec, nil)
	}
	if !ok {
		r, ok = w.imported(s, key)
	}
	if !ok {
		w.missed(s)
		return nil, false
	}
	w.vertex(s).Cached()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loaded[key] = r
	return r, true
}

// fromRecord gives what a record says of a step: its own layer or, of a stack,
// none, on the result that it was made on. from is the cache made elsewhere that
// the record is of, if it is; then that has the layer.
func (w *Worker) fromRecord(s *solve.Step, rec *cache.Record, from *remote.Cache) (*Result, bool) {
	below, ok := w.lower(s.In[0].Step, solve.Key(rec.Below))
	if !ok {
		return nil, false
	}
	key := solve.Key(rec.Key)
	if len(rec.Layers) == 1 {
		l := w.storedLayer(rec.Layers[0], time.Unix(0, rec.Created).UTC())
		if _, ok := w.Store.BlobSize(rec.Layers[0].Digest); !ok {
			if from == nil {
				return nil, false
			}
			w.lieIn(l, from, *rec)
		}
		return below.with(l, key), true
	}
	if rec.Over == "" && len(rec.Layers) > 0 || len(s.In) < 2 {
		return nil, false
	}
	over, ok := w.lower(s.In[1].Step, solve.Key(rec.Over))
	if !ok {
		return nil, false
	}
	return restack(below, over, key), true
}

// lower gives the result that another was made on: a root, or what is filed
// under key.
func (w *Worker) lower(s *solve.Step, key solve.Key) (*Result, bool) {
	switch plan.Kind(s) {
	case "scratch":
		return &Result{}, true
	case "image":
		op, err := plan.DecodeOp(s)
		if err != nil {
			return nil, false
		}
		return w.image(op.(plan.Image), w.vertex(s)), true
	}
	return w.load(s, key)
}

// stack lays the layers of input 1 on those of input 0, and files that.
func (w *Worker) stack(j solve.Job[*Result]) *Result {
	w.file(j, cache.Record{Below: string(j.In[0].key), Over: string(j.In[1].key)})
	return restack(j.In[0], j.In[1], j.Content)
}

func restack(below, over *Result, key solve.Key) *Result {
	r := below
	for _, l := range over.Layers() {
		r = r.with(l, key)
	}
	return r
}

// Alias implements [solve.Runner].
func (w *Worker) Alias(_ context.Context, s *solve.Step, key, content solve.Key, _ *Result) {
	rec, err := w.Cache.Get(string(content))
	if errors.Is(err, fs.ErrNotExist) {
		return // from elsewhere: not filed here
	}
	if err == nil {
		err = w.Cache.Put(string(key), *rec)
	}
	if err != nil { // the next build looks the content up again
		w.Progress.Warn("filing %s under its new recipe: %v", w.Name(s), err)
	}
}

// file files a record under both keys of a job. A record that can't be written
// costs the next build time and this one nothing.
func (w *Worker) file(j solve.Job[*Result], rec cache.Record) {
	rec.Key, rec.Name, rec.Op, rec.Parts = string(j.Content), w.Name(j.Step), j.Step.Op, j.Parts
	for _, key := range []solve.Key{j.Content, j.Recipe} {
		if err := w.Cache.Put(string(key), rec); err != nil {
			w.Progress.Warn("filing the result of %s: %v", rec.Name, err)
			return
		}
		if j.Recipe == j.Content {
			return
		}
	}
}
