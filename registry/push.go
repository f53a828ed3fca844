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
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/cairn-build/cairn/layer"
)

// Push sends one image to one repository, layer by layer as they come to be.
// Pushes of one client to the same repository share what they know.
type Push struct {
	h    *host
	t    Reference
	repo *repository
	tag  *flight[tagged]
}

// repository is what is known of one repository that is pushed to.
type repository struct {
	h    *host
	name string
	// chunk is the size of chunks of broken uploads, if it is not chunkSize.
	chunk int64

	mu    sync.Mutex
	blobs map[layer.Digest]*flight[struct{}] // sent, or found to be there
	given map[layer.Digest]given
}

type given struct {
	blob layer.Blob
	src  Source
}

// tagged is what the tag means before the push.
type tagged struct {
	digest layer.Digest
	blobs  map[layer.Digest]bool // that the manifest lists
}

// Source is where the bytes of a blob come from.
type Source struct {
	// From is a reference on the same registry whose repository has the blob
	// already; it may be empty.
	From string
	// Open is called only when the bytes must be sent, and again for each
	// retry.
	Open func() (io.ReadCloser, error)
	// Ahead is an upload of the same bytes that has begun; it may be nil.
	Ahead *Ahead
}

// NewPush begins a push; nothing is sent yet.
func (c *Client) NewPush(ref string) (*Push, error) {
	t, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	h, err := c.pushHost(t)
	if err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	return &Push{h: h, t: t, repo: c.repository(h, t.Repo), tag: newFlight[tagged]()}, nil
}

// NewPushByDigest begins a push that sets no tag: the image is then known by
// its digest alone. A tag in ref is ignored.
func (c *Client) NewPushByDigest(ref string) (*Push, error) {
	p, err := c.NewPush(ref)
	if err == nil {
		p.t.Tag = ""
	}
	return p, err
}

// Check asks for what the tag means now, with the right to push. It costs no
// request: the push would send the same one later. So wrong credentials and
// registries that are down are found before a build rather than after it.
func (p *Push) Check(ctx context.Context) error {
	_, err := p.tagged(ctx)
	return p.wrap(err)
}

// CheckRights begins an upload and takes it back. Registries that let
// everybody read say only then that a push is not for this user. It is
// advice: some want a token for this that a push does not need.
func (p *Push) CheckRights(ctx context.Context) error {
	resp, err := p.h.do(ctx, call{method: http.MethodPost, path: p.t.Repo + "/blobs/uploads/", repo: p.t.Repo, scopes: pushScope(p.t.Repo)})
	if err != nil {
		return p.wrap(err)
	}
	resp.Body.Close()
	if at, err := p.h.location(resp); err == nil {
		p.repo.takeBack(ctx, at)
	}
	return nil
}

// Blob makes sure that the repository has b, once for each digest however
// many callers ask. progress, if not nil, is told how many bytes of b are
// there by now; the number falls when an upload begins again.
func (p *Push) Blob(ctx context.Context, b layer.Blob, src Source, progress func(n int64)) error {
	if err := b.Digest.Validate(); err != nil {
		return p.wrap(err)
	}
	rem, err := p.tagged(ctx)
	if err != nil {
		return p.wrap(err)
	}
	p.repo.mu.Lock()
	p.repo.given[b.Digest] = given{b, src}
	p.repo.mu.Unlock()
	if progress == nil {
		progress = func(int64) {}
	}
	_, err = p.repo.flight(b.Digest).do(ctx, func() (struct{}, error) {
		if rem.blobs[b.Digest] {
			return struct{}{}, nil
		}
		return struct{}{}, p.repo.send(ctx, b, src, progress)
	})
	if a := p.repo.ahead(src); a != nil && !a.taken.Load() {
		a.forget(ctx)
	}
	if err != nil {
		return p.wrap(fmt.Errorf("blob %s: %w", b.Digest, err))
	}
	progress(b.Size)
	return nil
}

// Image sends config and manifest and sets the tag. Its layers must have been
// given to Blob, unless the tag means this image already: then nothing is
// sent.
func (p *Push) Image(ctx context.Context, img layer.Image) error {
	rem, err := p.tagged(ctx)
	if err != nil {
		return p.wrap(err)
	}
	if rem.digest == img.Digest {
		return nil
	}
	for _, l := range img.Layers {
		if len(l.URLs) > 0 || rem.blobs[l.Digest] {
			continue
		}
		g, ok := p.repo.source(l.Digest)
		if !ok {
			return p.wrap(fmt.Errorf("layer %s of the image was not sent", l.Digest))
		}
		if err := p.Blob(ctx, l, g.src, nil); err != nil { // waits if it is still on its way
			return err
		}
	}
	config := layer.Blob{Digest: img.ConfigDigest, Size: int64(len(img.Config))}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(img.Config)), nil }
	if err := p.Blob(ctx, config, Source{Open: open}, nil); err != nil {
		return err
	}
	err = p.manifest(ctx, img)
	if missesBlob(err) { // the tag's old manifest listed blobs that are gone
		if err = p.repo.resend(ctx, img); err == nil {
			err = p.manifest(ctx, img)
		}
	}
	return p.set(ctx, img.Digest, err)
}

// set is what comes of having set the tag to d with an error.
func (p *Push) set(ctx context.Context, d layer.Digest, err error) error {
	var no *statusError
	if errors.As(err, &no) && no.status < 500 && p.means(ctx, d) { // a tag that must not change, and somebody was faster
		return nil
	}
	return p.wrap(err)
}

// Set sends the images of several platforms, each under its digest, and sets the
// tag to their index. Their layers must have been given to Blob, as for Image.
func (p *Push) Set(ctx context.Context, set layer.Set) error {
	rem, err := p.tagged(ctx)
	if err != nil {
		return p.wrap(err)
	}
	if rem.digest == set.Digest {
		return nil
	}
	for _, img := range set.Images {
		t := p.t
		t.Tag, t.Digest = "", ""
		one := &Push{h: p.h, t: t, repo: p.repo, tag: newFlight[tagged]()}
		if err := one.Image(ctx, img); err != nil {
			return err
		}
	}
	err = p.manifest(ctx, layer.Image{MediaType: set.MediaType, Digest: set.Digest, Manifest: set.Index})
	return p.set(ctx, set.Digest, err)
}

// means says whether the tag means d by now.
func (p *Push) means(ctx context.Context, d layer.Digest) bool {
	if p.t.Tag == "" || ctx.Err() != nil {
		return false
	}
	now, err := p.h.digest(ctx, p.t.Repo, p.t.Tag)
	return err == nil && now == d
}

func (p *Push) wrap(err error) error {
	if err == nil {
		return nil
	}
	if strings.HasPrefix(err.Error(), "push "+p.t.String()+": ") {
		return err
	}
	return fmt.Errorf("push %s: %w", p.t.String(), err)
}

// tagged gets the manifest that the tag has now, once. A GET rather than a
// HEAD: the same request tells which layers are there.
func (p *Push) tagged(ctx context.Context) (tagged, error) {
	return p.tag.do(ctx, func() (tagged, error) {
		if p.t.identifier() == "" {
			return tagged{}, nil
		}
		_, raw, err := p.h.document(ctx, p.t.Repo, p.t.identifier(), pushScope(p.t.Repo))
		if errors.Is(err, ErrNotFound) || errors.Is(err, errBroken) { // broken: to be replaced
			return tagged{}, nil
		}
		if err != nil {
			return tagged{}, err
		}
		return newTagged(raw), nil
	})
}

func newTagged(raw []byte) tagged {
	type part struct {
		Digest layer.Digest `json:"digest"`
		URLs   []string     `json:"urls"`
	}
	var m struct {
		Config part   `json:"config"`
		Layers []part `json:"layers"`
	}
	rem := tagged{digest: layer.FromBytes(raw), blobs: map[layer.Digest]bool{}}
	if json.Unmarshal(raw, &m) == nil {
		for _, l := range append(m.Layers, m.Config) {
			if len(l.URLs) == 0 {
				rem.blobs[l.Digest] = true
			}
		}
	}
	return rem
}

func (p *Push) manifest(ctx context.Context, img layer.Image) error {
	id := p.t.Tag
	if id == "" {
		id = string(img.Digest)
	}
	if p.t.Digest != "" && p.t.Digest != img.Digest {
		return fmt.Errorf("the image has digest %s, not the one that it is to be pushed as", img.Digest)
	}
	err := p.h.attempt(ctx, p.t.Repo, pushScope(p.t.Repo), false, func(rt http.RoundTripper) error {
		return remote.Put(p.h.named(p.t.Repo, id), manifest{img}, remote.WithContext(ctx), remote.WithTransport(rt),
			remote.WithRetryPredicate(func(error) bool { return false }))
	})
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

// manifest is that of an image for go-containerregistry to put.
type manifest struct{ layer.Image }

func (m manifest) RawManifest() ([]byte, error) { return m.Manifest, nil }
func (m manifest) MediaType() (types.MediaType, error) {
	return types.MediaType(m.Image.MediaType), nil
}

func missesBlob(err error) bool {
	var e *statusError
	return errors.As(err, &e) && (e.has(transport.ManifestBlobUnknownErrorCode) || e.has(transport.BlobUnknownErrorCode))
}

func (r *repository) source(d layer.Digest) (given, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.given[d]
	return g, ok
}

func (r *repository) flight(d layer.Digest) *flight[struct{}] {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.blobs[d]
	if f == nil {
		f = newFlight[struct{}]()
		r.blobs[d] = f
	}
	return f
}

// resend asks for each blob of img, and sends those that are not there.
func (r *repository) resend(ctx context.Context, img layer.Image) error {
	digests := []layer.Digest{img.ConfigDigest}
	for _, l := range img.Layers {
		digests = append(digests, l.Digest)
	}
	for _, d := range digests {
		g, ok := r.source(d)
		if !ok {
			continue
		}
		if err := r.send(ctx, g.blob, g.src, func(int64) {}); err != nil {
			return fmt.Errorf("blob %s: %w", d, err)
		}
	}
	return nil
}
