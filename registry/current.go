package registry

import (
	"context"

	"github.com/cairn-build/cairn/layer"
)

// Current is the image that the push would replace, as the registry itself has
// it now, whatever its mirrors say. None is [ErrNotFound].
func (p *Push) Current(ctx context.Context) (layer.Image, error) {
	img, err := p.h.image(ctx, p.t.Repo, p.t.identifier(), layer.HostPlatform(), 0)
	return img, p.wrap(err)
}

// CurrentDigest is the digest of what the push would replace now, by a HEAD
// request. None is [ErrNotFound].
func (p *Push) CurrentDigest(ctx context.Context) (layer.Digest, error) {
	d, err := p.h.digest(ctx, p.t.Repo, p.t.identifier())
	return d, p.wrap(err)
}
