package registry

import (
	"context"
	"fmt"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/transport"
)

// Manifests are the manifests and indexes of one repository, at its registry itself and
// not at a mirror.
type Manifests struct {
	ref    reference.Reference
	repo   *repository
	scopes []string
}

// Manifests returns those of the repository in ref. It sends nothing. Put needs write.
func (c *Client) Manifests(ref string, write bool) (*Manifests, error) {
	t, err := reference.Parse(ref)
	if err != nil {
		return nil, err
	}
	h, err := c.pushHost(t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	m := &Manifests{ref: t, repo: c.repository(h, t.Repo), scopes: pullScope(t.Repo)}
	if write {
		m.scopes = pushScope(t.Repo)
	}
	return m, nil
}

// Reference returns the parsed reference of the repository, with its tag.
func (m *Manifests) Reference() reference.Reference { return m.ref }

// Get returns the media type, digest and bytes of a manifest or an index by tag or
// digest. The error is [ErrNotFound] if there is none.
func (m *Manifests) Get(ctx context.Context, id string) (layer.Image, error) {
	mediaType, raw, err := m.repo.fetch(ctx, id, m.scopes)
	if err != nil {
		return layer.Image{}, m.wrap("look up", id, err)
	}
	return layer.Image{MediaType: mediaType, Digest: layer.FromBytes(raw), Manifest: raw}, nil
}

// Digest returns the digest of a manifest or an index by tag or digest. The error is
// [ErrNotFound] if there is none.
func (m *Manifests) Digest(ctx context.Context, id string) (layer.Digest, error) {
	d, err := m.repo.digest(ctx, id)
	return d, m.wrap("look up", id, err)
}

// Put uploads a manifest or an index as it is under a tag or its digest. The repository
// must have everything that it refers to.
func (m *Manifests) Put(ctx context.Context, id string, img layer.Image) error {
	err := m.repo.put(ctx, id, img)
	switch transport.Status(err) {
	case 400, 403, 405, 409, 412:
		if layer.Digest(id).Validate() != nil && !transport.MissingBlob(err) {
			err = fmt.Errorf("%w; if tags are immutable there, this one cannot be set again", err)
		}
	}
	return m.wrap("push", id, err)
}

func (m *Manifests) wrap(action, id string, err error) error {
	if err == nil {
		return nil
	}
	at := reference.Reference{Domain: m.ref.Domain, Repo: m.ref.Repo, Tag: id}
	if layer.Digest(id).Validate() == nil {
		at.Tag, at.Digest = "", layer.Digest(id)
	}
	return fmt.Errorf("%s %s: %w", action, at, err)
}

// Lacks reports whether err is a registry's answer that it does not have a blob or
// manifest that is referred to.
func Lacks(err error) bool {
	if transport.MissingBlob(err) {
		return true
	}
	status := transport.Status(err)
	return status == 400 || status == 404 || status == 422
}
