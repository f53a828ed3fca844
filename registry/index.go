package registry

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

const (
	maxEntries  = 1000 // of an index whose images are all fetched
	fetchAtOnce = 4    // of these images
)

// ResolveIndex returns all images that ref refers to: those of an index,
// attestations included, or one image and a nil index. It reads no layer. An
// index that contains another index is an error.
func (c *Client) ResolveIndex(ctx context.Context, ref string) (layer.Image, *layer.Index, error) {
	t, err := reference.Parse(ref)
	if err != nil {
		return layer.Image{}, nil, err
	}
	type result struct {
		image layer.Image
		index *layer.Index
	}
	r, err := fromFirst(ctx, c, t, func(e endpoint) (r result, err error) {
		r.image, r.index, err = e.images(ctx, t.Identifier())
		return r, err
	})
	if err != nil {
		return layer.Image{}, nil, fmt.Errorf("pull %s: %w", t.String(), err)
	}
	return r.image, r.index, nil
}

func (e endpoint) images(ctx context.Context, id string) (layer.Image, *layer.Index, error) {
	mediaType, raw, x, err := e.read(ctx, id)
	if err != nil {
		return layer.Image{}, nil, err
	}
	if x == nil {
		img, err := e.config(ctx, mediaType, raw)
		return img, nil, err
	}
	if len(x.Manifests) == 0 || len(x.Manifests) > maxEntries {
		return layer.Image{}, nil, fmt.Errorf("index has %d entries, want 1 to %d", len(x.Manifests), maxEntries)
	}
	images := make([]layer.Image, len(x.Manifests))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchAtOnce)
	for i, entry := range x.Manifests {
		g.Go(func() (err error) {
			images[i], err = e.entryImage(ctx, entry)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return layer.Image{}, nil, err
	}
	parsed, err := layer.ParseIndex(mediaType, raw, images)
	if err != nil {
		return layer.Image{}, nil, err
	}
	return parsed.Default(), &parsed, nil
}

// entryImage returns one image of an index.
func (e endpoint) entryImage(ctx context.Context, entry indexEntry) (layer.Image, error) {
	if err := entry.Digest.Validate(); err != nil {
		return layer.Image{}, fmt.Errorf("index: %w", err)
	}
	mediaType, raw, x, err := e.read(ctx, string(entry.Digest))
	if err == nil && x != nil {
		err = errors.New("it is another index, which is not supported; refer to the image by its digest")
	}
	var img layer.Image
	if err == nil {
		img, err = e.config(ctx, mediaType, raw)
	}
	if err != nil {
		return layer.Image{}, fmt.Errorf("%s of the index: %w", entry.Digest, err)
	}
	return img, nil
}
