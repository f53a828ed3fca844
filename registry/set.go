package registry

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-build/cairn/layer"
)

const maxMembers = 1000 // of an index that is read whole

// ResolveSet finds all that ref means: the images of an index, attestations among
// them, or one image, and then the set is nil. No layer is touched. An index that
// has something else, such as another index, is an error.
func (c *Client) ResolveSet(ctx context.Context, ref string) (layer.Image, *layer.Set, error) {
	t, err := ParseReference(ref)
	if err != nil {
		return layer.Image{}, nil, err
	}
	type found struct {
		image layer.Image
		set   *layer.Set
	}
	f, err := fromAny(ctx, c, t, func(s origin) (f found, err error) {
		f.image, f.set, err = s.set(ctx, s.repo, t.identifier())
		return f, err
	})
	if err != nil {
		return layer.Image{}, nil, fmt.Errorf("pull %s: %w", t.String(), err)
	}
	return f.image, f.set, nil
}

func (h *host) set(ctx context.Context, repo, id string) (layer.Image, *layer.Set, error) {
	mediaType, raw, x, err := h.read(ctx, repo, id)
	if err != nil {
		return layer.Image{}, nil, err
	}
	if x == nil {
		img, err := h.config(ctx, repo, mediaType, raw)
		return img, nil, err
	}
	if len(x.Manifests) == 0 || len(x.Manifests) > maxMembers {
		return layer.Image{}, nil, fmt.Errorf("its index has %d entries, want 1 to %d", len(x.Manifests), maxMembers)
	}
	images := make([]layer.Image, len(x.Manifests))
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(uploadsAtOnce)
	for i, e := range x.Manifests {
		g.Go(func() (err error) {
			images[i], err = h.member(each, repo, e)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return layer.Image{}, nil, err
	}
	set, err := layer.ParseSet(mediaType, raw, images)
	if err != nil {
		return layer.Image{}, nil, err
	}
	return set.Main(), &set, nil
}

// member gets one image of an index.
func (h *host) member(ctx context.Context, repo string, e indexEntry) (layer.Image, error) {
	if err := e.Digest.Validate(); err != nil {
		return layer.Image{}, fmt.Errorf("its index: %w", err)
	}
	mediaType, raw, x, err := h.read(ctx, repo, string(e.Digest))
	if err == nil && x != nil {
		err = errors.New("it is an index of its own: name the image that is meant by its digest")
	}
	var img layer.Image
	if err == nil {
		img, err = h.config(ctx, repo, mediaType, raw)
	}
	if err != nil {
		return layer.Image{}, fmt.Errorf("%s of its index: %w", e.Digest, err)
	}
	return img, nil
}

// Manifest gets what ref means, a manifest or an index, byte by byte.
func (c *Client) Manifest(ctx context.Context, ref string) (mediaType string, raw []byte, err error) {
	t, err := ParseReference(ref)
	if err != nil {
		return "", nil, err
	}
	_, err = fromAny(ctx, c, t, func(s origin) (struct{}, error) {
		var err error
		mediaType, raw, _, err = s.read(ctx, s.repo, t.identifier())
		return struct{}{}, err
	})
	if err != nil {
		return "", nil, fmt.Errorf("look up %s: %w", t.String(), err)
	}
	return mediaType, raw, nil
}
