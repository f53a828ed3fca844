package snapshot

import (
	"context"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/diff"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/once"
	"github.com/cairn-build/cairn/layer/store"
)

// Stack is a stack of layers. It is immutable: [Stack.With] returns a new one.
type Stack struct {
	m     *Manager
	below *Stack // nil for the empty stack
	layer *Layer // the top; nil for the empty stack
	depth int    // the number of layers

	early, full once.Value[*listing.View]
	run         once.Value[string] // the merged tree of the run of layers that ends here; "" for none
}

// With returns the stack with one more layer on top.
func (s *Stack) With(l *Layer) *Stack { return &Stack{m: s.m, below: s, layer: l, depth: s.depth + 1} }

// WithStack returns the stack with the layers of another on top.
func (s *Stack) WithStack(top *Stack) *Stack {
	for _, l := range top.Layers() {
		s = s.With(l)
	}
	return s
}

// Top returns the topmost layer, or nil for the empty stack.
func (s *Stack) Top() *Layer { return s.layer }

// Layers returns the layers, bottom first.
func (s *Stack) Layers() []*Layer {
	chain := s.chain()
	out := make([]*Layer, len(chain))
	for i, s := range chain {
		out[i] = s.layer
	}
	return out
}

// chain returns the stacks that each end with one of the layers, bottom first.
func (s *Stack) chain() (out []*Stack) {
	for ; s.layer != nil; s = s.below {
		out = append(out, s)
	}
	slices.Reverse(out)
	return out
}

// View returns the merged tree. Files of layers that are still being compressed may lack
// digests.
func (s *Stack) View(ctx context.Context) (*listing.View, error) {
	if s.layer == nil {
		return listing.Empty(), nil
	}
	return s.early.Do(ctx, func() (*listing.View, error) {
		return merge(ctx, s, s.layer.EarlyListing, s.below.View)
	})
}

// FullView returns the merged tree with the digests of all files. It waits for layers
// that are being compressed.
func (s *Stack) FullView(ctx context.Context) (*listing.View, error) {
	if s.layer == nil {
		return listing.Empty(), nil
	}
	return s.full.Do(ctx, func() (*listing.View, error) {
		return merge(ctx, s, s.layer.Listing, s.below.FullView)
	})
}

// merge adds the listing of the top layer to the view below. It gets both at the same
// time, as each may have to read a layer.
func merge(ctx context.Context, s *Stack, top func(context.Context) (*listing.Listing, error),
	below func(context.Context) (*listing.View, error)) (*listing.View, error) {
	var x *listing.Listing
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		x, err = top(ctx)
	}()
	view, belowErr := below(ctx)
	<-done
	if belowErr != nil {
		return nil, belowErr
	}
	if err != nil {
		return nil, err
	}
	return view.WithLayer(x), nil
}

// NeedsFetch reports whether FullView would fetch a layer of an image.
func (s *Stack) NeedsFetch() bool {
	for _, l := range s.Layers() {
		if !l.isImage {
			continue
		}
		if _, err := s.m.Store.Listing(l.blob.DiffID); err != nil {
			return true
		}
	}
	return false
}

// Trees returns the directories of all layers, topmost first, as an overlay takes them.
// It fetches and unpacks missing ones concurrently, and merges some if there are very
// many.
func (s *Stack) Trees(ctx context.Context) ([]string, error) {
	chain := s.chain()
	dirs := make([]string, len(chain))
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, s := range chain {
		g.Go(func() (err error) {
			dirs[i], err = s.layer.Tree(each, s.below)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	dirs, err := s.m.shorten(ctx, chain, dirs)
	slices.Reverse(dirs)
	return unique(dirs), err
}

// unique drops all but the first of equal directories, as of several empty layers: an
// overlay refuses duplicates, and the topmost hides the others.
func unique(dirs []string) []string {
	seen := make(map[string]bool, len(dirs))
	return slices.DeleteFunc(slices.Clone(dirs), func(dir string) bool {
		again := seen[dir]
		seen[dir] = true
		return again
	})
}

// diffIDs waits for the diff IDs of all layers and returns them, bottom first.
func (s *Stack) diffIDs(ctx context.Context) (ids []layer.Digest, err error) {
	for _, l := range s.Layers() {
		b, err := l.Blob(ctx)
		if err != nil {
			return nil, err
		}
		ids = append(ids, b.DiffID)
	}
	return ids, nil
}

// ChainID waits for the diff IDs of all layers and returns their chain ID.
func (s *Stack) ChainID(ctx context.Context) (layer.Digest, error) {
	ids, err := s.diffIDs(ctx)
	return layer.ChainID(ids), err
}

// rootEntry returns the attributes of the root directory that steps see. They are those
// that BuildKit's snapshots have: the mode is always 0755, and the owner is the one that
// an earlier step has set. An image's own entry of the directory has no influence.
func (s *Stack) rootEntry(ctx context.Context) (listing.Entry, error) {
	view, err := s.View(ctx)
	if err != nil {
		return listing.Entry{}, err
	}
	n, _ := view.Lookup(".")
	if n.Layer >= 0 && s.Layers()[n.Layer].isImage {
		n.Entry = listing.Entry{Path: ".", Type: listing.TypeDir, MTime: n.MTime}
	}
	n.Mode = diff.RootMode
	return n.Entry, nil
}

// NewUpper makes the upper directory for an overlay mount of the stack. Its root has the
// attributes of the tree's, which it hides.
func (s *Stack) NewUpper(ctx context.Context) (*store.Tree, error) {
	root, err := s.rootEntry(ctx)
	if err != nil {
		return nil, err
	}
	t, err := s.m.Store.NewTree()
	if err != nil {
		return nil, err
	}
	if err := diff.Prepare(t.Dir, root); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// SaveOrigins records where to fetch the layers that the store does not have, so that
// the stack can be stored as an image. It fetches those of caches, which may disappear.
func (s *Stack) SaveOrigins(ctx context.Context) error {
	for _, l := range s.Layers() {
		b, err := l.Blob(ctx)
		if err != nil {
			return err
		}
		if _, ok := s.m.Store.TouchBlob(b.Digest); ok || l.origin == nil {
			continue
		}
		if l.origin.ref == "" {
			if err := l.read(ctx, b, func(io.Reader) error { return nil }); err != nil {
				return err
			}
			continue
		}
		if err := s.m.Store.SetOrigin(b.Digest, l.origin.ref); err != nil {
			return err
		}
	}
	return nil
}
