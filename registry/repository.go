package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/once"
	"github.com/cairn-build/cairn/registry/transport"
)

const uploadsAtOnce = 4 // for each registry

// A destination is the state that the pushes to one registry share.
type destination struct {
	slots    chan struct{} // limits parallel uploads
	blobs    sync.Map      // layer.Digest -> name of a repository that has the blob
	minChunk atomic.Int64  // bytes of a chunk that the registry accepts
	noChunks atomic.Bool   // the registry rejects chunks
	noStream atomic.Bool   // the registry rejects uploads of unknown digest

	mu      sync.Mutex
	sending map[layer.Digest]chan struct{} // closed when the blob is in a repository
}

// claim waits until no other repository is being sent the blob, which can then be mounted
// from there. The caller calls release when the blob is sent.
func (d *destination) claim(ctx context.Context, blob layer.Digest) (release func(), err error) {
	for {
		d.mu.Lock()
		other := d.sending[blob]
		if other == nil {
			done := make(chan struct{})
			if d.sending == nil {
				d.sending = map[layer.Digest]chan struct{}{}
			}
			d.sending[blob] = done
			d.mu.Unlock()
			return func() {
				d.mu.Lock()
				defer d.mu.Unlock()
				delete(d.sending, blob)
				close(done)
			}, nil
		}
		d.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// A repository is one that is pushed to.
type repository struct {
	endpoint
	client *Client
	dest   *destination
	// chunk is the size of chunks of resumed uploads; 0 means chunkSize.
	chunk int64
	sent  once.Map[layer.Digest, struct{}] // blobs that the repository has

	mu      sync.Mutex
	sources map[layer.Digest]blobSource
}

type blobSource struct {
	blob layer.Descriptor
	src  Source
}

func (r *repository) setSource(b layer.Descriptor, src Source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources[b.Digest] = blobSource{b, src}
}

func (r *repository) source(d layer.Digest) (blobSource, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sources[d]
	return s, ok
}

// send finds, mounts or uploads b.
func (r *repository) send(ctx context.Context, b layer.Descriptor, src Source, progress func(int64)) error {
	return r.transfer(ctx, &upload{repo: r, blob: b, src: src, progress: progress})
}

func (r *repository) transfer(ctx context.Context, u *upload) error {
	release, err := r.dest.claim(ctx, u.blob.Digest)
	if err != nil {
		return err
	}
	defer release()
	select {
	case r.dest.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-r.dest.slots }()
	_, known := r.dest.blobs.Load(u.blob.Digest)
	if s := r.stream(u.src); s != nil && !known && s.used.CompareAndSwap(false, true) {
		if done, err := s.handOver(ctx, u); done || err != nil {
			return err
		}
	}
	return u.run(ctx)
}

// resend sends those blobs of img that the repository does not have, or all if the
// registry is not to be asked for them.
func (r *repository) resend(ctx context.Context, img layer.Image, all bool) error {
	digests := []layer.Digest{img.ConfigDigest}
	for _, l := range img.Layers {
		digests = append(digests, l.Digest)
	}
	for _, d := range digests {
		s, ok := r.source(d)
		if !ok {
			continue
		}
		if err := r.transfer(ctx, &upload{repo: r, blob: s.blob, src: s.src, progress: func(int64) {}, unasked: all}); err != nil {
			return fmt.Errorf("blob %s: %w", d, err)
		}
	}
	return nil
}

// mountFrom returns the repository to mount b from: one that has it, or else
// this one, so that the mount request finds out whether b is here.
func (r *repository) mountFrom(b layer.Descriptor, src Source) string {
	if src.From != "" {
		if repo, ok := r.client.repoOn(r.Host, src.From); ok {
			return repo
		}
	}
	if from, ok := r.dest.blobs.Load(b.Digest); ok {
		return from.(string)
	}
	return r.repo
}

// begin starts an upload of b, or mounts b from another repository, in one
// request: a mount that fails starts an upload. It returns a nil location if the
// repository has b.
func (r *repository) begin(ctx context.Context, b layer.Descriptor, from string) (*url.URL, error) {
	mounted, location, err := r.start(ctx, false, url.Values{"mount": {string(b.Digest)}, "from": {from}}, from)
	if mounted || err == nil && from == r.repo {
		return location, nil
	}
	if err != nil && (errors.Is(err, ErrUnreachable) || ctx.Err() != nil || from == r.repo && errors.Is(err, ErrUnauthorized)) {
		return nil, err
	}
	// The mount is not allowed, or the blob is not there.
	resp, headErr := r.Do(ctx, r.request(http.MethodHead, "/blobs/"+string(b.Digest)))
	if headErr == nil {
		return nil, resp.Body.Close()
	}
	if !errors.Is(headErr, ErrNotFound) {
		return nil, headErr
	}
	if err == nil {
		return location, nil
	}
	_, location, err = r.start(ctx, false, nil)
	if errors.Is(err, ErrNotFound) && !transport.MissingBlob(err) {
		err = &missingRepository{fmt.Sprintf("registry %s has no repository %s and makes none for a push: create it there, or check the name (%v)", r.Name(), r.repo, err), err}
	}
	return location, err
}

// A missingRepository is the error of a registry that refuses to start an upload for
// lack of the repository.
type missingRepository struct {
	text string
	err  error
}

func (e *missingRepository) Error() string { return e.text }
func (e *missingRepository) Unwrap() error { return e.err }

// start starts an upload, without retries if once is set. If query names a mount
// that succeeds, it reports mounted instead.
func (r *repository) start(ctx context.Context, once bool, query url.Values, from ...string) (mounted bool, location *url.URL, err error) {
	req := r.request(http.MethodPost, "/blobs/uploads/")
	req.Query, req.Scopes, req.Once = query, pushScope(r.repo, from...), once
	resp, err := r.Do(ctx, req)
	if err != nil {
		return false, nil, err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return true, nil, nil
	}
	if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && n > 0 {
		r.dest.minChunk.Store(n)
	}
	location, err = r.Location(resp)
	return false, location, err
}

// cancelUpload cancels an upload. If that fails, the registry drops the upload
// when it is old.
func (r *repository) cancelUpload(ctx context.Context, location *url.URL) {
	req := r.request(http.MethodDelete, "")
	req.URL, req.Once = location, true
	if resp, err := r.Do(ctx, req); err == nil {
		resp.Body.Close()
	}
}

// request returns a request for a path below the repository.
func (r *repository) request(method, path string) transport.Request {
	return transport.Request{Method: method, Path: r.repo + path, Repo: r.repo, Scopes: pushScope(r.repo)}
}
