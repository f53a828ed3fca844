package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/cairn-build/cairn/layer"
)

const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	maxNesting  = 3 // indexes in indexes
)

// Resolve finds the image of platform p that ref means: its manifest and its
// config, both verified. No layer is touched. The zero platform is this
// machine's. An image that is not in an index is returned whatever its
// platform.
func (c *Client) Resolve(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
	t, err := ParseReference(ref)
	if err != nil {
		return layer.Image{}, err
	}
	if p.OS == "" {
		p = layer.HostPlatform()
	}
	img, err := fromAny(ctx, c, t, func(s origin) (layer.Image, error) {
		return s.image(ctx, s.repo, t.identifier(), p, 0)
	})
	if err != nil {
		return layer.Image{}, fmt.Errorf("pull %s: %w", t.String(), err)
	}
	return img, nil
}

// ResolveDigest says what ref means now, by a HEAD request: the digest of an
// image's manifest, or of an index of several. A reference with a digest is
// asked for too, so that a missing one is an error.
func (c *Client) ResolveDigest(ctx context.Context, ref string) (layer.Digest, error) {
	t, err := ParseReference(ref)
	if err != nil {
		return "", err
	}
	d, err := fromAny(ctx, c, t, func(s origin) (layer.Digest, error) {
		return s.digest(ctx, s.repo, t.identifier())
	})
	if err != nil {
		return "", fmt.Errorf("look up %s: %w", t.String(), err)
	}
	return d, nil
}

// OpenBlob streams a blob of ref's repository. The reader gives exactly the
// bytes that b promises or an error; a connection that breaks is taken up
// where it broke. It must be closed, and read to io.EOF to be verified.
func (c *Client) OpenBlob(ctx context.Context, ref string, b layer.Blob) (io.ReadCloser, error) {
	t, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	if err := b.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("pull from %s: %w", t.String(), err)
	}
	what := fmt.Sprintf("pull %s: blob %s", t.String(), b.Digest)
	r, err := fromAny(ctx, c, t, func(s origin) (io.ReadCloser, error) {
		return s.open(ctx, s.repo, b, what)
	})
	if err != nil && len(b.URLs) > 0 && errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w; the image says that this layer lies on another server, which is not asked", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return r, nil
}

// fromAny asks the mirrors of t's registry in order, then the registry.
func fromAny[T any](ctx context.Context, c *Client, t Reference, ask func(origin) (T, error)) (T, error) {
	var none T
	var failed []string
	sources, err := c.sources(t)
	if err != nil {
		return none, err
	}
	for _, h := range sources {
		if h.mirrors != "" && h.down.Load() {
			continue // found out a moment ago
		}
		v, err := ask(h)
		if err == nil {
			return v, nil
		}
		if ctx.Err() != nil {
			return none, context.Cause(ctx)
		}
		if h.mirrors == "" {
			if len(failed) > 0 {
				err = fmt.Errorf("%w (mirrors: %s)", err, strings.Join(failed, "; "))
			}
			return none, err
		}
		failed = append(failed, err.Error())
	}
	return none, errors.New("no registry to ask") // not reached: the registry itself is always asked
}

// named is a manifest as go-containerregistry names it.
func (h *host) named(repo, id string) name.Reference {
	if r := h.registry.Repo(repo); layer.Digest(id).Validate() != nil {
		return r.Tag(id)
	} else {
		return r.Digest(id)
	}
}

// document gets a manifest or an index by tag or digest. It is verified.
func (h *host) document(ctx context.Context, repo, id string, scopes []string) (mediaType string, raw []byte, err error) {
	var d *remote.Descriptor
	err = h.attempt(ctx, repo, scopes, false, func(rt http.RoundTripper) (err error) {
		d, err = remote.Get(h.named(repo, id), remote.WithContext(ctx), remote.WithTransport(rt))
		return err
	})
	if err != nil {
		return "", nil, err
	}
	mediaType, _, _ = strings.Cut(string(d.MediaType), ";")
	switch mediaType = strings.TrimSpace(mediaType); mediaType {
	case "application/json", "application/octet-stream", "text/plain":
		mediaType = "" // said by servers that do not know
	}
	return mediaType, d.Manifest, nil
}

func (h *host) digest(ctx context.Context, repo, id string) (layer.Digest, error) {
	var d layer.Digest
	err := h.attempt(ctx, repo, pullScope(repo), false, func(rt http.RoundTripper) error {
		desc, err := remote.Head(h.named(repo, id), remote.WithContext(ctx), remote.WithTransport(rt))
		if err == nil {
			d = layer.Digest(desc.Digest.String())
		}
		return err
	})
	if err == nil && d.Validate() == nil {
		return d, nil
	}
	if err != nil && !hasStatus(err, http.StatusMethodNotAllowed, http.StatusNotImplemented) && !errors.As(err, new(*permanent)) {
		return "", err
	}
	_, raw, err := h.document(ctx, repo, id, pullScope(repo)) // an answer to HEAD may lack what it should say
	if err != nil {
		return "", err
	}
	return layer.FromBytes(raw), nil
}

// index is an OCI index or a docker manifest list. It may have nothing that
// belongs to an image: such a document would be either, as a reader likes.
type index struct {
	MediaType string            `json:"mediaType"`
	Manifests []indexEntry      `json:"manifests"`
	Config    json.RawMessage   `json:"config"`
	Layers    []json.RawMessage `json:"layers"`
}

type indexEntry struct {
	MediaType string          `json:"mediaType"`
	Digest    layer.Digest    `json:"digest"`
	Size      int64           `json:"size"`
	Platform  *layer.Platform `json:"platform"`
}

func (h *host) image(ctx context.Context, repo, id string, p layer.Platform, depth int) (layer.Image, error) {
	mediaType, raw, x, err := h.read(ctx, repo, id)
	if err != nil {
		return layer.Image{}, err
	}
	if x == nil {
		return h.config(ctx, repo, mediaType, raw)
	}
	if depth == maxNesting {
		return layer.Image{}, errors.New("its indexes lie too deep in one another")
	}
	entry, err := choose(x.Manifests, p)
	if err != nil {
		return layer.Image{}, err
	}
	return h.image(ctx, repo, string(entry.Digest), p, depth+1)
}

// read gets a manifest or an index; x is nil for a manifest.
func (h *host) read(ctx context.Context, repo, id string) (mediaType string, raw []byte, x *index, err error) {
	mediaType, raw, err = h.document(ctx, repo, id, pullScope(repo))
	if err != nil {
		return "", nil, nil, err
	}
	x = &index{}
	if err := layer.Unmarshal(raw, x); err != nil {
		return "", nil, nil, fmt.Errorf("its manifest can't be read: %w", err)
	}
	if mediaType == "" {
		mediaType = x.MediaType
	}
	switch mediaType {
	case layer.MediaTypeIndex, layer.DockerManifestList:
	case "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws":
		return "", nil, nil, errors.New("its manifest has docker's schema 1, which was given up in 2017; push it again with a newer docker")
	default:
		return mediaType, raw, nil, nil
	}
	if x.Config != nil || x.Layers != nil || x.MediaType != "" && x.MediaType != mediaType {
		return "", nil, nil, errors.New("its index is also an image: refused")
	}
	return mediaType, raw, x, nil
}

// config completes an image by its config.
func (h *host) config(ctx context.Context, repo, mediaType string, raw []byte) (layer.Image, error) {
	b, err := layer.ConfigOf(mediaType, raw)
	if err != nil {
		return layer.Image{}, err
	}
	if b.Size > maxConfig {
		return layer.Image{}, fmt.Errorf("its config has %d bytes, at most %d are read", b.Size, maxConfig)
	}
	r, err := h.open(ctx, repo, b, "config "+string(b.Digest))
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

// choose picks the entry that fits p best.
func choose(entries []indexEntry, p layer.Platform) (indexEntry, error) {
	var images []indexEntry // without attestations and the like
	for _, e := range entries {
		if err := e.Digest.Validate(); err != nil {
			return indexEntry{}, fmt.Errorf("its index: %w", err)
		}
		if e.Platform == nil || e.Platform.OS != "unknown" {
			images = append(images, e)
		}
	}
	for _, want := range p.Compatible() {
		for _, e := range images {
			if e.Platform != nil && want.Matches(*e.Platform) {
				return e, nil
			}
		}
	}
	if len(images) == 1 && images[0].Platform == nil {
		return images[0], nil
	}
	var have []string
	for _, e := range images {
		if e.Platform != nil {
			have = append(have, e.Platform.String())
		}
	}
	if len(have) == 0 {
		have = []string{"no image at all"}
	}
	text := fmt.Sprintf("there is no image for %s; there is %s", p, strings.Join(have, ", "))
	return indexEntry{}, &problem{ErrNotFound, text, ErrNotFound}
}
