package worker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
	"golang.org/x/sync/errgroup"
)

// Image is a base image whose layers are fetched when someone looks at them.
type Image struct {
	fetching
	result *Result
}

// fetching shows that layers of an image or a cache come in.
type fetching struct {
	vertex *progress.Vertex

	mu     sync.Mutex
	active int
	ended  bool
}

// image gives the result of an image step; every use of one image shares its
// layers.
func (w *Worker) image(op plan.Image, v *progress.Vertex) *Result {
	key := string(layer.ChainID(op.DiffIDs))
	for _, b := range op.Extra.Layers {
		key += " " + string(b.Digest) // one tree may come in several compressions
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if img, ok := w.images[key]; ok {
		return img.result
	}
	img := &Image{fetching: fetching{vertex: v}, result: &Result{}}
	w.images[key] = img
	missing := false
	for _, b := range op.Extra.Layers {
		l := w.storedLayer(b, time.Time{})
		l.image, l.from = img, w.whence(b.Digest, op.Extra.Ref)
		img.result = img.result.with(l, "")
		if _, ok := w.Store.BlobSize(b.Digest); !ok {
			missing = true
		}
	}
	if !missing {
		img.ended = true
		v.Cached()
	}
	return img.result
}

// Stored gives the tree of an image of the store, whose layers may never have
// been fetched.
func (w *Worker) Stored(img layer.Image, ref string) *Result {
	op := plan.Image{Extra: plan.ImageExtra{Ref: ref, Layers: img.Layers}}
	for _, b := range img.Layers {
		op.DiffIDs = append(op.DiffIDs, b.DiffID)
	}
	return w.image(op, w.Progress.Vertex("fetching "+ref))
}

// whence is where a blob can be fetched from. A build can give out an image without
// ever fetching the layers of its base: the store knows where those are.
func (w *Worker) whence(d layer.Digest, ref string) string {
	return cmp.Or(w.Store.Origin(d), ref)
}

// Remember keeps where the layers of a result come from that the store lacks.
// Those of a cache in a folder are taken over.
func (w *Worker) Remember(ctx context.Context, r *Result) error {
	for _, l := range r.Layers() {
		if _, ok := w.Store.BlobSize(l.blob.Digest); ok || !l.elsewhere() {
			continue
		}
		if l.from == "" {
			if err := l.stream(ctx, l.blob, func(io.Reader) error { return nil }); err != nil {
				return err
			}
			continue
		}
		if err := w.Store.SetOrigin(l.blob.Digest, l.from); err != nil {
			return err
		}
	}
	return nil
}

// busy shows the image as being fetched until the function that it returns is
// called, and all others like it.
func (img *fetching) busy() func() {
	img.mu.Lock()
	defer img.mu.Unlock()
	img.active++
	img.vertex.Start()
	return func() {
		img.mu.Lock()
		defer img.mu.Unlock()
		if img.active--; img.active == 0 {
			img.ended = true
			img.vertex.Done(nil)
		}
	}
}

// rest ends the display of an image that nothing was fetched of.
func (img *fetching) rest() {
	img.mu.Lock()
	defer img.mu.Unlock()
	if !img.ended {
		img.vertex.Cached()
	}
}

// stream hands the layer's uncompressed tar to f. A blob that is not in the
// store is fetched and kept on the way; the diff ID is verified.
func (l *Layer) stream(ctx context.Context, b layer.Blob, f func(io.Reader) error) error {
	raw, err := l.w.Store.OpenBlob(b.Digest)
	if errors.Is(err, fs.ErrNotExist) && l.elsewhere() {
		return l.download(ctx, b, f)
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", b.Digest, err)
	}
	defer raw.Close()
	err = expand(b, raw, f)
	if err != nil && ctx.Err() == nil {
		if bad := l.w.Store.VerifyBlob(b.Digest); bad != nil {
			return bad
		}
	}
	return err
}

// download fetches the blob, and keeps it once all of it has been verified.
func (l *Layer) download(ctx context.Context, b layer.Blob, f func(io.Reader) error) error {
	shown := l.shown()
	defer shown.busy()()
	defer l.w.Progress.Span("layers that come in", progress.Work, "fetches "+string(b.Digest))()
	body, err := l.fetch(ctx, b)
	if err != nil {
		return err
	}
	defer body.Close()
	kept, err := l.w.Store.NewBlob()
	if err != nil {
		return err
	}
	defer kept.Close()
	counted := progress.Counted(body, func(n int64) { shown.vertex.Status(string(b.Digest), n, b.Size) })
	if err := expand(b, io.TeeReader(counted, kept), f); err != nil {
		return err
	}
	shown.vertex.StatusDone(string(b.Digest))
	if err := kept.Commit(b.Digest); err != nil {
		return err
	}
	if err := l.w.Store.AddLayer(b); err != nil {
		return err
	}
	l.arrived()
	return nil
}

// expand decompresses raw for f and reads both to their ends, so that digests
// are verified whatever f left unread.
func expand(b layer.Blob, raw io.Reader, f func(io.Reader) error) error {
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

// Tree gives the directory that the layer is unpacked in, in overlay form.
// below is the result that the layer lies on: it tells where a path leads whose
// parents the layer itself lacks.
func (l *Layer) Tree(ctx context.Context, below *Result) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tree != "" {
		return l.tree, nil
	}
	var err error
	switch {
	case l.fresh != nil:
		l.tree, err = l.growTree(ctx, below)
	case l.err != nil: // what the step made is let go of, and no blob came of it
		err = l.err
	default:
		l.tree, err = l.unpack(ctx, below)
	}
	return l.tree, err
}

// growTree gives the tree that a step of this build ran in, or makes one from
// what it changed without waiting for the layer's tar.
func (l *Layer) growTree(ctx context.Context, below *Result) (string, error) {
	if t := l.fresh.tree; t != nil {
		return t.Dir, nil
	}
	view, err := l.w.View(ctx, below)
	if err != nil {
		return "", err
	}
	t, err := l.w.Store.NewTree()
	if err != nil {
		return "", err
	}
	if err := tarball.MaterializeOver(t.Dir, l.fresh.changes.all(), l.w.owners(tarball.ApplyOptions{Below: view})); err != nil {
		t.Close()
		return "", err
	}
	t.Keep()
	l.fileTree(t, below)
	return t.Dir, nil
}

// fileTree files a tree as soon as it is known what it holds: under its diff ID
// or, when it hides something below, under its chain's.
func (l *Layer) fileTree(t *store.Tree, below *Result) {
	l.w.behind.Go(func() {
		<-l.settled
		if l.err != nil {
			return
		}
		key, err := TreeKey(l.blob.DiffID), error(nil)
		if x, bad := l.w.Store.Index(l.blob.DiffID); bad != nil || !tarball.SelfContained(x) {
			key, err = chainKey(l.w.ctx, below, l.blob.DiffID)
		}
		if err == nil {
			err = t.Commit(key)
		}
		l.w.pipeline(err)
	})
}

// TreeKey is the key under which the store has the tree of a layer that names all
// parents of its entries.
func TreeKey(diffID layer.Digest) string { return "layer " + string(diffID) }

func each(changes []tarball.Change) iter.Seq2[tarball.Change, error] {
	return func(yield func(tarball.Change, error) bool) {
		for _, c := range changes {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// unpack makes the tree of a stored layer. One that is complete in itself is
// shared by every image that has it; one whose parents lie in layers below
// belongs to its chain.
func (l *Layer) unpack(ctx context.Context, below *Result) (string, error) {
	b := l.blob
	if dir, ok := l.w.Store.Tree(TreeKey(b.DiffID)); ok {
		return dir, nil
	}
	chain, err := chainKey(ctx, below, b.DiffID)
	if err != nil {
		return "", err
	}
	if dir, ok := l.w.Store.Tree(chain); ok {
		return dir, nil
	}
	if x, err := l.w.Store.Index(b.DiffID); err != nil || tarball.SelfContained(x) {
		dir, err := l.unpackAs(ctx, TreeKey(b.DiffID), nil)
		if err != nil || dir != "" {
			return dir, err
		}
	}
	view, err := l.w.View(ctx, below)
	if err != nil {
		return "", err
	}
	return l.unpackAs(ctx, chain, view)
}

// unpackAs unpacks the layer and files the tree under key. Without a view of
// what lies below, a layer that needs one gives "", but its index is kept.
func (l *Layer) unpackAs(ctx context.Context, key string, below *index.View) (string, error) {
	t, err := l.w.Store.NewTree()
	if err != nil {
		return "", err
	}
	defer t.Close()
	var x *index.Index
	limits, name := l.w.Limits.layer(l.blob)
	err = l.stream(ctx, l.blob, func(r io.Reader) (err error) {
		x, err = tarball.Apply(t.Dir, r, l.w.owners(tarball.ApplyOptions{Below: below, Limits: limits}))
		return allowMore(err, name)
	})
	if err != nil {
		return "", err
	}
	if _, err := l.w.Store.Index(l.blob.DiffID); err != nil {
		if err := l.w.Store.PutIndex(l.blob.DiffID, x); err != nil {
			return "", err
		}
	}
	if below == nil && !tarball.SelfContained(x) {
		return "", nil
	}
	return t.Dir, t.Commit(key)
}

func chainKey(ctx context.Context, below *Result, top layer.Digest) (string, error) {
	ids, err := diffIDs(ctx, below)
	return "chain " + string(layer.ChainID(append(ids, top))), err
}

// diffIDs waits for those of all layers of a result, bottom first.
func diffIDs(ctx context.Context, r *Result) (ids []layer.Digest, err error) {
	for _, l := range r.Layers() {
		b, err := l.Blob(ctx)
		if err != nil {
			return nil, err
		}
		ids = append(ids, b.DiffID)
	}
	return ids, nil
}

// Trees gives the directories of all layers of a result, topmost first, as an
// overlay wants them. What is missing is fetched and unpacked, at once.
func (w *Worker) Trees(ctx context.Context, r *Result) ([]string, error) {
	chain := r.chain()
	dirs := make([]string, len(chain))
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, r := range chain {
		l, below := r.layer, r.below
		g.Go(func() (err error) {
			dirs[i], err = l.Tree(each, below)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	dirs, err := w.shorten(ctx, chain, dirs)
	slices.Reverse(dirs)
	return unique(dirs), err
}

// unique leaves out trees that lie further up too, as the empty layer often
// does: no overlay takes one twice, and the upper one hides what the other says.
func unique(dirs []string) []string {
	seen := make(map[string]bool, len(dirs))
	return slices.DeleteFunc(slices.Clone(dirs), func(dir string) bool {
		again := seen[dir]
		seen[dir] = true
		return again
	})
}
