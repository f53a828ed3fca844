package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"golang.org/x/sync/errgroup"
)

// Push sends an image of the store to the registry that its name says. Layers
// that the store never had are mounted or streamed from where they came.
// It gives the digest of the image, or of the index of several.
func (b *Builder) Push(ctx context.Context, ref string) (layer.Digest, error) {
	t, err := b.Tagged(ref)
	if err != nil {
		return "", err
	}
	return b.push(ctx, t, t.Ref)
}

// PushAs is Push under another name.
func (b *Builder) PushAs(ctx context.Context, ref, as string) (layer.Digest, error) {
	t, err := b.Tagged(ref)
	if err != nil {
		return "", err
	}
	name, err := registry.Normalize(as)
	if err != nil {
		return "", err
	}
	return b.push(ctx, t, name)
}

func (b *Builder) push(ctx context.Context, t store.Tagged, name string) (layer.Digest, error) {
	push, err := b.Registry.NewPush(name)
	if err != nil {
		return "", err
	}
	v := b.Progress.Vertex("pushing " + name)
	v.Start()
	err = b.send(ctx, push, t, name, v)
	v.Done(err)
	return t.Digest(), err
}

// layersOf gives the layers of all platforms of a stored image.
func (b *Builder) layersOf(ctx context.Context, t store.Tagged, from string) (all []*worker.Layer) {
	images := []layer.Image{t.Image}
	if t.Set != nil {
		images = t.Set.Images
	}
	w := b.worker(ctx)
	for _, img := range images {
		all = append(all, w.Stored(img, from).Layers()...)
	}
	return all
}

// send sends an image's layers, all at once, then its config and manifest.
func (b *Builder) send(ctx context.Context, push *registry.Push, t store.Tagged, name string, v *progress.Vertex) error {
	if err := push.Check(ctx); err != nil {
		return err
	}
	g, each := errgroup.WithContext(ctx)
	for _, l := range b.layersOf(ctx, t, t.Ref) {
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
	return end(ctx, push, t.Image, t.Set)
}

// Pull fetches an image with all its layers and tags it in the store, by the name in
// full that it gives.
func (b *Builder) Pull(ctx context.Context, ref string, p layer.Platform) (name string, d layer.Digest, err error) {
	if name, err = b.Registry.Full(ctx, ref); err != nil {
		return "", "", err
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
	return name, img.Digest, err
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
	t, err := b.Tagged(ref)
	if err != nil {
		return err
	}
	name, err := registry.Normalize(as)
	if err != nil {
		return fmt.Errorf("invalid tag: %w", err)
	}
	if err := b.tag(name, t.Image, t.Set); err != nil {
		return err
	}
	if t.Ref == untagged+string(t.Digest()) {
		return b.Store.Untag(t.Ref)
	}
	return nil
}

// Remove takes a name from an image of the store, or with (the beginning of) an ID
// all names of that image. Its layers go with the next prune, unless something
// else needs them. It gives the names.
func (b *Builder) Remove(ref string) ([]string, error) {
	names, err := b.names(ref)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if err := b.Store.Untag(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return names[:i], err
		}
	}
	return names, nil
}

// names finds what an image is called: ref itself, or all names of the image whose
// ID it is.
func (b *Builder) names(ref string) ([]string, error) {
	img, name, err := b.Image(ref)
	var missing *notStored
	switch {
	case errors.As(err, &missing):
		return nil, missing // nobody fetches what is to go
	case err != nil && !errors.Is(err, errAmbiguous):
		return nil, err
	}
	if full, err := registry.Normalize(ref); err == nil && full == name {
		return []string{name}, nil
	}
	all, listErr := b.Store.Images()
	if listErr != nil {
		return nil, listErr
	}
	var names []string
	for _, t := range all {
		if !begins(t.Image.ConfigDigest, ref) && !begins(t.Digest(), ref) {
			continue
		}
		if err != nil && len(names) > 0 && t.Image.ConfigDigest != img.ConfigDigest {
			return nil, err
		}
		img, names = t.Image, append(names, t.Ref)
	}
	return names, nil
}
