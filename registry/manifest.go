package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/transport"
)

// Manifest returns the manifest or index that ref refers to, unchanged.
func (c *Client) Manifest(ctx context.Context, ref string) (mediaType string, raw []byte, err error) {
	t, err := reference.Parse(ref)
	if err != nil {
		return "", nil, err
	}
	_, err = fromFirst(ctx, c, t, func(e endpoint) (struct{}, error) {
		var err error
		mediaType, raw, _, err = e.read(ctx, t.Identifier())
		return struct{}{}, err
	})
	if err != nil {
		return "", nil, fmt.Errorf("look up %s: %w", t.String(), err)
	}
	return mediaType, raw, nil
}

// manifestRef returns go-containerregistry's name of a manifest.
func (e endpoint) manifestRef(id string) name.Reference {
	r := e.Registry.Repo(e.repo)
	if layer.Digest(id).Validate() != nil {
		return r.Tag(id)
	}
	return r.Digest(id)
}

// fetch returns a manifest or an index by tag or digest, verified by the
// transport. The media type is empty if the server does not know it.
func (e endpoint) fetch(ctx context.Context, id string, scopes []string) (mediaType string, raw []byte, err error) {
	var d *remote.Descriptor
	err = e.Attempt(ctx, e.repo, scopes, func(rt http.RoundTripper) (err error) {
		d, err = remote.Get(e.manifestRef(id), remote.WithContext(ctx), remote.WithTransport(rt))
		return err
	})
	if err != nil {
		return "", nil, err
	}
	mediaType, _, _ = strings.Cut(string(d.MediaType), ";")
	switch mediaType = strings.TrimSpace(mediaType); mediaType {
	case "application/json", "application/octet-stream", "text/plain":
		mediaType = ""
	}
	return mediaType, d.Manifest, nil
}

// digest returns the digest of a manifest or an index by tag or digest.
func (e endpoint) digest(ctx context.Context, id string) (layer.Digest, error) {
	var d layer.Digest
	err := e.Attempt(ctx, e.repo, pullScope(e.repo), func(rt http.RoundTripper) error {
		desc, err := remote.Head(e.manifestRef(id), remote.WithContext(ctx), remote.WithTransport(rt))
		if err == nil {
			d = layer.Digest(desc.Digest.String())
		}
		return err
	})
	if err == nil && d.Validate() == nil {
		return d, nil
	}
	status := transport.Status(err)
	if err != nil && status != http.StatusMethodNotAllowed && status != http.StatusNotImplemented && !transport.IsPermanent(err) {
		return "", err
	}
	_, raw, err := e.fetch(ctx, id, pullScope(e.repo)) // the answer to HEAD may lack headers
	if err != nil {
		return "", err
	}
	return layer.FromBytes(raw), nil
}

// index is an OCI index or a docker manifest list. Config and Layers are fields
// of an image: a document that has both could be read as either.
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

// read fetches a manifest or an index; x is nil for a manifest.
func (e endpoint) read(ctx context.Context, id string) (mediaType string, raw []byte, x *index, err error) {
	mediaType, raw, err = e.fetch(ctx, id, pullScope(e.repo))
	if err != nil {
		return "", nil, nil, err
	}
	x = &index{}
	if err := layer.Unmarshal(raw, x); err != nil {
		return "", nil, nil, fmt.Errorf("parse manifest: %w", err)
	}
	if mediaType == "" {
		mediaType = x.MediaType
	}
	switch mediaType {
	case layer.MediaTypeIndex, layer.DockerManifestList:
	case "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws":
		return "", nil, nil, errors.New("manifest has docker's schema 1, which is not supported; push the image again with docker 1.10 or later")
	default:
		return mediaType, raw, nil, nil
	}
	if x.Config != nil || x.Layers != nil || x.MediaType != "" && x.MediaType != mediaType {
		return "", nil, nil, errors.New("index is also an image manifest, which is not supported")
	}
	return mediaType, raw, x, nil
}

// choose returns the entry of an index that fits p best.
func choose(entries []indexEntry, p layer.Platform) (indexEntry, error) {
	var images []indexEntry // without attestations
	for _, e := range entries {
		if err := e.Digest.Validate(); err != nil {
			return indexEntry{}, fmt.Errorf("index: %w", err)
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
	text := fmt.Sprintf("index has no image for %s; it has %s", p, strings.Join(have, ", "))
	if len(have) == 0 {
		text = fmt.Sprintf("index has no image for %s, nor for another platform", p)
	}
	return indexEntry{}, &transport.Error{Kind: ErrNotFound, Text: text, Err: ErrNotFound}
}

// putImage is a manifest or an index for go-containerregistry to put.
type putImage struct{ layer.Image }

func (m putImage) RawManifest() ([]byte, error) { return m.Manifest, nil }
func (m putImage) MediaType() (types.MediaType, error) {
	return types.MediaType(m.Image.MediaType), nil
}

// put uploads a manifest or an index under a tag or digest.
func (e endpoint) put(ctx context.Context, id string, img layer.Image) error {
	return e.Attempt(ctx, e.repo, pushScope(e.repo), func(rt http.RoundTripper) error {
		return remote.Put(e.manifestRef(id), putImage{img}, remote.WithContext(ctx), remote.WithTransport(rt),
			remote.WithRetryPredicate(func(error) bool { return false }))
	})
}
