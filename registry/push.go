package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/once"
	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/transport"
)

// Push sends one image to one repository, layer by layer as they are built.
// Pushes of one client to the same repository share the blobs that they sent.
type Push struct {
	ref  reference.Reference
	repo *repository
	tag  once.Value[tagState]
}

// tagState is the manifest that a tag refers to before a push.
type tagState struct {
	digest layer.Digest
	blobs  map[layer.Digest]bool // listed by the manifest
}

// Source provides the bytes of a blob.
type Source struct {
	// From is a reference on the same registry whose repository has the blob;
	// it may be empty.
	From string
	// Open returns a reader of the blob. It is called only if the bytes must be
	// sent, and again for each retry.
	Open func() (io.ReadCloser, error)
	// Stream is an upload of the same bytes that has started; it may be nil.
	Stream *StreamUpload
}

// NewPush returns a push to ref. It sends nothing.
func (c *Client) NewPush(ref string) (*Push, error) {
	t, err := reference.Parse(ref)
	if err != nil {
		return nil, err
	}
	h, err := c.pushHost(t)
	if err != nil {
		return nil, hinted(t, fmt.Errorf("push: %w", err))
	}
	return &Push{ref: t, repo: c.repository(h, t.Repo)}, nil
}

// NewPushByDigest returns a push that sets no tag: the image can be pulled by
// its digest only. A tag in ref is ignored.
func (c *Client) NewPushByDigest(ref string) (*Push, error) {
	p, err := c.NewPush(ref)
	if err == nil {
		p.ref.Tag = ""
	}
	return p, err
}

// Check fetches the manifest that the tag refers to, with a token for pushes, so
// that wrong credentials and unreachable registries are found before a build
// rather than after it. It costs no request, since the push needs the manifest.
func (p *Push) Check(ctx context.Context) error {
	_, err := p.tagState(ctx)
	return p.wrap(err)
}

// CheckRights starts an upload and cancels it. Registries with anonymous read
// access report a missing push right only here. A failure does not prove that a
// push would fail: some registries require a scope for this that a push does not
// need.
func (p *Push) CheckRights(ctx context.Context) error {
	resp, err := p.repo.Do(ctx, p.repo.request(http.MethodPost, "/blobs/uploads/"))
	if err != nil {
		return p.wrap(err)
	}
	resp.Body.Close()
	if location, err := p.repo.Location(resp); err == nil {
		p.repo.cancelUpload(ctx, location)
	}
	return nil
}

// Current returns the image that the push would replace, from the registry
// itself and not from its mirrors, or [ErrNotFound] if there is none.
func (p *Push) Current(ctx context.Context) (layer.Image, error) {
	img, err := p.repo.image(ctx, p.ref.Identifier(), layer.HostPlatform(), 0)
	return img, p.wrap(err)
}

// CurrentDigest returns the digest of the image or index that the push would
// replace, by a HEAD request, or [ErrNotFound] if there is none.
func (p *Push) CurrentDigest(ctx context.Context) (layer.Digest, error) {
	d, err := p.repo.digest(ctx, p.ref.Identifier())
	return d, p.wrap(err)
}

// Blob makes sure that the repository has b, once for each digest even if
// callers are concurrent. If progress is not nil, it is called with the number
// of bytes sent so far, which falls when an upload starts again.
func (p *Push) Blob(ctx context.Context, b layer.Descriptor, src Source, progress func(n int64)) error {
	if err := b.Digest.Validate(); err != nil {
		return p.wrap(err)
	}
	before, err := p.tagState(ctx)
	if err != nil {
		return p.wrap(err)
	}
	p.repo.setSource(b, src)
	if progress == nil {
		progress = func(int64) {}
	}
	_, err = p.repo.sent.Do(ctx, b.Digest, func() (struct{}, error) {
		if before.blobs[b.Digest] {
			return struct{}{}, nil
		}
		return struct{}{}, p.repo.send(ctx, b, src, progress)
	})
	if s := p.repo.stream(src); s != nil && !s.used.Load() {
		s.discard(ctx)
	}
	if errors.As(err, new(*missingRepository)) {
		return p.wrap(err)
	}
	if err != nil {
		return p.wrap(fmt.Errorf("blob %s: %w", b.Digest, err))
	}
	progress(b.Size)
	return nil
}

// Image sends config and manifest and sets the tag. Blob must have been called
// for its layers, unless the tag refers to this image already: then nothing is
// sent.
func (p *Push) Image(ctx context.Context, img layer.Image) error {
	before, err := p.tagState(ctx)
	if err != nil {
		return p.wrap(err)
	}
	if before.digest == img.Digest {
		return nil
	}
	for _, l := range img.Layers {
		if len(l.URLs) > 0 || before.blobs[l.Digest] {
			continue
		}
		s, ok := p.repo.source(l.Digest)
		if !ok {
			return p.wrap(fmt.Errorf("layer %s of the image has not been sent", l.Digest))
		}
		if err := p.Blob(ctx, l, s.src, nil); err != nil { // waits for an upload under way
			return err
		}
	}
	config := layer.Descriptor{Digest: img.ConfigDigest, Size: int64(len(img.Config))}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(img.Config)), nil }
	if err := p.Blob(ctx, config, Source{Open: open}, nil); err != nil {
		return err
	}
	err = p.persist(ctx, func() error { return p.putManifest(ctx, img) }, func(failed int) error { return p.repo.resend(ctx, img, failed == 3) })
	return p.wrap(p.acceptSame(ctx, img.Digest, err))
}

// persist calls put. While the registry answers that it lacks a blob, persist sends what
// is missing and calls put again, first at once, since the tag's old manifest may list
// blobs that were deleted, then after growing pauses: registries may lose sight of blobs
// for moments while several pushes send them at once.
func (p *Push) persist(ctx context.Context, put func() error, send func(failed int) error) error {
	err := put()
	retries := p.repo.Retries()
	for failed := 1; transport.MissingBlob(err); failed++ {
		if failed > 1 {
			if err := retries.Pause(ctx, err); err != nil {
				return err
			}
		}
		if err = send(failed); err == nil {
			err = put()
		}
	}
	return err
}

// Index sends the images of an index, each under its digest, and sets the tag to
// the index. Blob must have been called for their layers, as for Image.
func (p *Push) Index(ctx context.Context, x layer.Index) error {
	before, err := p.tagState(ctx)
	if err != nil {
		return p.wrap(err)
	}
	if before.digest == x.Digest {
		return nil
	}
	images := func(int) error {
		for _, img := range x.Images {
			byDigest := &Push{ref: p.ref, repo: p.repo}
			byDigest.ref.Tag, byDigest.ref.Digest = "", ""
			if err := byDigest.Image(ctx, img); err != nil {
				return err
			}
		}
		return nil
	}
	if err := images(0); err != nil {
		return err
	}
	index := layer.Image{MediaType: x.MediaType, Digest: x.Digest, Manifest: x.Raw}
	err = p.persist(ctx, func() error { return p.putManifest(ctx, index) }, images)
	return p.wrap(p.acceptSame(ctx, x.Digest, err))
}

// Tag sets the tag to an image or index that the repository has under its digest.
// img needs its manifest only.
func (p *Push) Tag(ctx context.Context, img layer.Image) error {
	before, err := p.tagState(ctx)
	if err != nil {
		return p.wrap(err)
	}
	if before.digest == img.Digest {
		return nil
	}
	return p.wrap(p.acceptSame(ctx, img.Digest, p.putManifest(ctx, img)))
}

// Refers reports whether the tag referred to an image or index of this digest before the
// push.
func (p *Push) Refers(ctx context.Context, d layer.Digest) (bool, error) {
	before, err := p.tagState(ctx)
	return before.digest == d, p.wrap(err)
}

// acceptSame returns nil instead of err, the refusal of an immutable tag, if the
// tag refers to d because a concurrent push has set it. If it refers to another image,
// the error says so.
func (p *Push) acceptSame(ctx context.Context, d layer.Digest, err error) error {
	if status := transport.Status(err); status == 0 || status >= http.StatusInternalServerError || p.ref.Tag == "" || ctx.Err() != nil {
		return err
	}
	now, lookup := p.repo.digest(ctx, p.ref.Tag)
	switch {
	case lookup == nil && now == d:
		return nil
	case lookup == nil && !transport.MissingBlob(err):
		return fmt.Errorf("%w; the tag refers to another image, %s: if tags are immutable there, choose another", err, now)
	}
	return err
}

func (p *Push) wrap(err error) error {
	if err == nil {
		return nil
	}
	if strings.HasPrefix(err.Error(), "push "+p.ref.String()+": ") {
		return err
	}
	return hinted(p.ref, fmt.Errorf("push %s: %w", p.ref.String(), err))
}

// hinted adds a hint to the error of a push to the official images of Docker Hub.
func hinted(ref reference.Reference, err error) error {
	if ref.Domain == reference.Hub && strings.HasPrefix(ref.Repo, "library/") {
		return &libraryError{ref.Familiar(), err}
	}
	return err
}

// libraryError is a failed push to the official images of Docker Hub, most likely of a name
// without a registry.
type libraryError struct {
	name string
	err  error
}

func (e *libraryError) Error() string { return e.err.Error() }
func (e *libraryError) Unwrap() error { return e.err }

// Hint returns the probable reason and the remedy.
func (e *libraryError) Hint() string {
	return fmt.Sprintf("the name %[1]s has no registry, and stands for one of Docker Hub's official images, to which only Docker pushes: "+
		"cairn tag %[1]s REGISTRY/%[1]s gives the image a name with your registry for cairn push, as does --tag in a build", e.name)
}

// tagState fetches the manifest that the tag refers to, once. It uses GET rather
// than HEAD since the manifest lists the layers that the repository has.
func (p *Push) tagState(ctx context.Context) (tagState, error) {
	return p.tag.Do(ctx, func() (tagState, error) {
		if p.ref.Identifier() == "" {
			return tagState{}, nil
		}
		_, raw, err := p.repo.fetch(ctx, p.ref.Identifier(), pushScope(p.ref.Repo))
		if errors.Is(err, ErrNotFound) || errors.Is(err, transport.ErrCorrupt) { // a corrupt manifest is replaced
			return tagState{}, nil
		}
		if err != nil {
			return tagState{}, err
		}
		return parseTagState(raw), nil
	})
}

func parseTagState(raw []byte) tagState {
	type blob struct {
		Digest layer.Digest `json:"digest"`
		URLs   []string     `json:"urls"`
	}
	var m struct {
		Config blob   `json:"config"`
		Layers []blob `json:"layers"`
	}
	state := tagState{digest: layer.FromBytes(raw), blobs: map[layer.Digest]bool{}}
	if json.Unmarshal(raw, &m) == nil {
		for _, l := range append(m.Layers, m.Config) {
			if len(l.URLs) == 0 {
				state.blobs[l.Digest] = true
			}
		}
	}
	return state
}

func (p *Push) putManifest(ctx context.Context, img layer.Image) error {
	id := p.ref.Tag
	if id == "" {
		id = string(img.Digest)
	}
	if p.ref.Digest != "" && p.ref.Digest != img.Digest {
		return fmt.Errorf("image has digest %s, but the reference has another", img.Digest)
	}
	if err := p.repo.put(ctx, id, img); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}
