package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
	"golang.org/x/sync/errgroup"
)

// Push sends an image of the store to the registry that its name says. Layers
// that the store never had are mounted or streamed from where they came.
func (b *Builder) Push(ctx context.Context, ref string) (layer.Image, error) {
	img, name, err := b.Image(ref)
	if err != nil {
		return layer.Image{}, err
	}
	push, err := b.Registry.NewPush(name)
	if err != nil {
		return layer.Image{}, err
	}
	v := b.Progress.Vertex("pushing " + name)
	v.Start()
	err = b.send(ctx, push, img, name, v)
	v.Done(err)
	return img, err
}

// send sends an image's layers, all at once, then its config and manifest.
func (b *Builder) send(ctx context.Context, push *registry.Push, img layer.Image, name string, v *progress.Vertex) error {
	if err := push.Check(ctx); err != nil {
		return err
	}
	g, each := errgroup.WithContext(ctx)
	for _, l := range b.worker(ctx).Stored(img, name).Layers() {
		g.Go(func() error {
			blob, err := l.Blob(each)
			if err != nil {
				return err
			}
			src := registry.Source{Open: func() (io.ReadCloser, error) { return l.Open(each) }}
			if l.From() != name {
				src.From = l.From()
			}
			return push.Blob(each, blob, src, moving(v, blob))
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return push.Image(ctx, img)
}

// Pull fetches an image with all its layers and tags it in the store.
func (b *Builder) Pull(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
	name, err := registry.Normalize(ref)
	if err != nil {
		return layer.Image{}, err
	}
	if p.OS == "" {
		p = layer.HostPlatform()
	}
	v := b.Progress.Vertex("pulling " + name)
	v.Start()
	img, err := resolve(ctx, b, name, p)
	if err == nil {
		g, each := errgroup.WithContext(ctx)
		g.SetLimit(4)
		for _, blob := range img.Layers {
			g.Go(func() error {
				defer v.StatusDone(string(blob.Digest))
				return b.fetch(each, name, blob, func(n int64) { v.Status(string(blob.Digest), n, blob.Size) })
			})
		}
		err = g.Wait()
	}
	if err == nil {
		err = b.Store.Tag(name, img)
	}
	v.Done(err)
	return img, err
}

// fetch makes sure that a blob is in the store.
func (b *Builder) fetch(ctx context.Context, ref string, blob layer.Blob, moved func(int64)) error {
	if _, ok := b.Store.BlobSize(blob.Digest); ok {
		return b.Store.AddLayer(blob)
	}
	r, err := b.Registry.OpenBlob(ctx, ref, blob)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := b.Store.PutBlob(blob.Digest, blob.Size, progress.Counted(r, moved)); err != nil {
		return fmt.Errorf("fetching layer %s of %s: %w", blob.Digest, ref, err)
	}
	return b.Store.AddLayer(blob)
}

// Tag gives an image of the store one more name.
func (b *Builder) Tag(ref, as string) error {
	img, old, err := b.Image(ref)
	if err != nil {
		return err
	}
	name, err := registry.Normalize(as)
	if err != nil {
		return fmt.Errorf("invalid tag: %w", err)
	}
	if err := b.Store.Tag(name, img); err != nil {
		return err
	}
	if old == Untagged(img) {
		return b.Store.Untag(old)
	}
	return nil
}

// Remove takes a name from an image of the store. Its layers go with the next
// prune, unless something else needs them. It gives the name.
func (b *Builder) Remove(ref string) (string, error) {
	_, name, err := b.Image(ref)
	if err != nil {
		return "", err
	}
	if err := b.Store.Untag(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return name, nil
}
