package registry

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

const (
	maxConfig  = 8 << 20 // bytes
	maxNesting = 3       // of indexes
)

// Resolve returns the image of platform p that ref refers to: its manifest and
// its config, both verified. It reads no layer. The zero platform is this
// machine's. An image that is not in an index is returned regardless of its
// platform.
func (c *Client) Resolve(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
	t, err := reference.Parse(ref)
	if err != nil {
		return layer.Image{}, err
	}
	if p.OS == "" {
		p = layer.HostPlatform()
	}
	img, err := fromFirst(ctx, c, t, func(e endpoint) (layer.Image, error) { return e.image(ctx, t.Identifier(), p, 0) })
	if err != nil {
		return layer.Image{}, fmt.Errorf("pull %s: %w", t.String(), err)
	}
	return img, nil
}

// ResolveDigest returns the digest of the manifest or index that ref refers to,
// by a HEAD request. A reference with a digest is requested too, so that a
// missing one is an error.
func (c *Client) ResolveDigest(ctx context.Context, ref string) (layer.Digest, error) {
	t, err := reference.Parse(ref)
	if err != nil {
		return "", err
	}
	d, err := fromFirst(ctx, c, t, func(e endpoint) (layer.Digest, error) { return e.digest(ctx, t.Identifier()) })
	if err != nil {
		return "", fmt.Errorf("look up %s: %w", t.String(), err)
	}
	return d, nil
}

// OpenBlob returns a reader of a blob of ref's repository. The reader returns
// the bytes of b or an error; if a connection breaks, it resumes the download.
// It verifies the digest when it is read to [io.EOF]. The caller closes it.
func (c *Client) OpenBlob(ctx context.Context, ref string, b layer.Descriptor) (io.ReadCloser, error) {
	t, err := reference.Parse(ref)
	if err != nil {
		return nil, err
	}
	if err := b.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("pull from %s: %w", t.String(), err)
	}
	action := fmt.Sprintf("pull %s: blob %s", t.String(), b.Digest)
	r, err := fromFirst(ctx, c, t, func(e endpoint) (io.ReadCloser, error) { return e.open(ctx, b, action) })
	if err != nil && len(b.URLs) > 0 && errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w; it is a foreign layer (urls); fetching it from another server is not supported", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	return r, nil
}

// image returns the image with a tag or digest, or the image of platform p if
// there is an index, which is itself nested in depth others.
func (e endpoint) image(ctx context.Context, id string, p layer.Platform, depth int) (layer.Image, error) {
	mediaType, raw, x, err := e.read(ctx, id)
	if err != nil {
		return layer.Image{}, err
	}
	if x == nil {
		return e.config(ctx, mediaType, raw)
	}
	if depth == maxNesting {
		return layer.Image{}, fmt.Errorf("indexes are nested more than %d deep", maxNesting)
	}
	entry, err := choose(x.Manifests, p)
	if err != nil {
		return layer.Image{}, err
	}
	return e.image(ctx, string(entry.Digest), p, depth+1)
}

// config fetches the config of a manifest and returns the image.
func (e endpoint) config(ctx context.Context, mediaType string, raw []byte) (layer.Image, error) {
	b, err := layer.ConfigOf(mediaType, raw)
	if err != nil {
		return layer.Image{}, err
	}
	if b.Size > maxConfig {
		return layer.Image{}, fmt.Errorf("config has %d bytes, want at most %d", b.Size, maxConfig)
	}
	r, err := e.open(ctx, b, "config "+string(b.Digest))
	if err != nil {
		return layer.Image{}, fmt.Errorf("config %s: %w", b.Digest, err)
	}
	defer r.Close()
	config, err := io.ReadAll(r)
	if err != nil {
		return layer.Image{}, err
	}
	return layer.ParseImage(mediaType, raw, config)
}
