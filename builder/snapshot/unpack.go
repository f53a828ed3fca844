package snapshot

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Tree returns the directory of the layer, unpacked in overlay form, on the stack below
// it. The stack resolves paths whose parents the layer does not list.
func (l *Layer) Tree(ctx context.Context, below *Stack) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tree != "" {
		return l.tree, nil
	}
	var err error
	switch {
	case l.pending != nil:
		l.tree, err = l.materialize(ctx, below)
	case l.err != nil: // the changes are gone and there is no blob
		err = l.err
	default:
		l.tree, err = l.unpack(ctx, below)
	}
	return l.tree, err
}

// materialize makes the tree of a layer from its changes. The caller holds mu.
func (l *Layer) materialize(ctx context.Context, below *Stack) (string, error) {
	view, err := below.View(ctx)
	if err != nil {
		return "", err
	}
	t, err := l.m.Store.NewTree()
	if err != nil {
		return "", err
	}
	if err := tarball.MaterializeOver(t.Dir, l.pending.changes.All(), l.m.ApplyOptions(tarball.ApplyOptions{Below: view})); err != nil {
		err = l.m.Store.ExplainFull(err)
		t.Close()
		return "", err
	}
	t.Keep()
	l.saveTree(t, below, true)
	return t.Dir, nil
}

// exactTime returns the mtime that a path of the layer has on disk, or would have. It
// returns false for a layer of an image, and if there is no tree of the layer's step. It
// makes no tree.
func (l *Layer) exactTime(ctx context.Context, below *Stack, path string) (time.Time, bool) {
	if l.created.IsZero() {
		return time.Time{}, false
	}
	l.mu.Lock()
	dir := l.tree
	if dir == "" && l.times != nil {
		defer l.mu.Unlock()
		at, ok := l.exactTimes()[path]
		return at, ok
	}
	l.mu.Unlock()
	if dir == "" {
		dir, _ = l.savedTree(ctx, below)
	}
	if dir == "" {
		return time.Time{}, false
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return time.Time{}, false
	}
	defer root.Close()
	info, err := root.Lstat(path)
	if err != nil { // such as a device that could not be made
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// exactTimes returns the times of everything but files with content, which have to be
// opened anyway. The caller holds mu.
func (l *Layer) exactTimes() map[string]time.Time {
	if l.exact != nil {
		return l.exact
	}
	l.exact = map[string]time.Time{}
	if l.pending != nil {
		for c := range l.pending.changes.All() {
			if c.Time != nil && (c.Type != listing.TypeFile || c.Size == 0) {
				l.exact[c.Path] = c.Time()
			}
		}
		return l.exact
	}
	x, err := l.m.Store.Listing(l.blob.DiffID)
	if err != nil {
		return l.exact
	}
	rest := x.Entries // in the order of the tar
	for at := range l.times.All() {
		if len(rest) == 0 {
			break
		}
		if e := &rest[0]; e.Type != listing.TypeFile || e.Size == 0 {
			l.exact[e.Path] = at
		}
		rest = rest[1:]
	}
	return l.exact
}

// saveTree stores a tree with exact times once the layer's blob is known. It is for this
// result only: the tree of an image with the same layer has the times of the layer. exact
// means that the tree has no other paths than the layer.
func (l *Layer) saveTree(t *store.Tree, below *Stack, exact bool) {
	l.m.background.Go(func() {
		<-l.settled
		if l.err != nil {
			return
		}
		key, err := TreeKey(l.blob.DiffID), error(nil)
		if x, bad := l.m.Store.Listing(l.blob.DiffID); bad != nil || !exact || !tarball.SelfContained(x) {
			key, err = chainKey(l.m.ctx, below, l.blob.DiffID)
		}
		if err == nil {
			err = t.Commit(l.exactKey(key))
		}
		l.m.fail(err)
	})
}

// exactKey returns the key of the tree that the step of a layer has made.
func (l *Layer) exactKey(key string) string { return store.Variant(key, l.created.UnixNano()) }

// savedTree returns the tree that the step of a layer has made.
func (l *Layer) savedTree(ctx context.Context, below *Stack) (string, bool) {
	if l.created.IsZero() {
		return "", false
	}
	if dir, ok := l.m.Store.Tree(l.exactKey(TreeKey(l.blob.DiffID))); ok {
		return dir, true
	}
	chain, err := chainKey(ctx, below, l.blob.DiffID)
	if err != nil {
		return "", false
	}
	return l.m.Store.Tree(l.exactKey(chain))
}

// TreeKey returns the key of the tree of a layer that lists all parents of its entries.
// Its tree does not depend on the layers below.
func TreeKey(diffID layer.Digest) string { return "layer " + string(diffID) }

// chainKey returns the key of the tree of a layer on a stack.
func chainKey(ctx context.Context, below *Stack, top layer.Digest) (string, error) {
	ids, err := below.diffIDs(ctx)
	return "chain " + string(layer.ChainID(append(ids, top))), err
}

// unpack returns the tree of a layer that has a blob. The caller holds mu.
func (l *Layer) unpack(ctx context.Context, below *Stack) (string, error) {
	if dir, ok := l.savedTree(ctx, below); ok {
		return dir, nil
	}
	key := func(k string) string { return k }
	if l.times != nil {
		key = l.exactKey
	}
	if dir, ok := l.m.Store.Tree(key(TreeKey(l.blob.DiffID))); ok {
		return dir, nil
	}
	chain, err := chainKey(ctx, below, l.blob.DiffID)
	if err != nil {
		return "", err
	}
	if dir, ok := l.m.Store.Tree(key(chain)); ok {
		return dir, nil
	}
	if x, err := l.m.Store.Listing(l.blob.DiffID); err != nil || tarball.SelfContained(x) {
		dir, err := l.unpackAs(ctx, key(TreeKey(l.blob.DiffID)), nil)
		if err != nil || dir != "" {
			return dir, err
		}
	}
	view, err := below.View(ctx)
	if err != nil {
		return "", err
	}
	return l.unpackAs(ctx, key(chain), view)
}

// unpackAs unpacks the layer and stores its tree under key. If below is nil and the
// layer needs it, unpackAs stores the listing only and returns "".
func (l *Layer) unpackAs(ctx context.Context, key string, below *listing.View) (string, error) {
	t, err := l.m.Store.NewTree()
	if err != nil {
		return "", err
	}
	defer t.Close()
	var x *listing.Listing
	bound := l.m.Limits.Layer(l.blob)
	err = l.read(ctx, l.blob, func(r io.Reader) (err error) {
		x, err = tarball.Apply(t.Dir, r, l.m.ApplyOptions(tarball.ApplyOptions{Below: below, Limits: bound.Limits, Times: l.times}))
		return bound.Explain(err)
	})
	if err != nil {
		return "", l.m.Store.ExplainFull(err)
	}
	if _, err := l.m.Store.Listing(l.blob.DiffID); err != nil {
		if err := l.m.Store.PutListing(l.blob.DiffID, x); err != nil {
			return "", err
		}
	}
	if below == nil && !tarball.SelfContained(x) {
		return "", nil
	}
	return t.Dir, t.Commit(key)
}
