package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/cairn-build/cairn/layer"
)

// send brings b into the repository: found, mounted or uploaded.
func (r *repository) send(ctx context.Context, b layer.Blob, src Source, progress func(int64)) error {
	select {
	case r.h.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-r.h.slots }()
	t := newTransfer(r, b, src, progress)
	_, known := r.h.blobs.Load(b.Digest)
	if a := r.ahead(src); a != nil && !known && a.taken.CompareAndSwap(false, true) {
		if done, err := a.take(ctx, t); done || err != nil {
			return err
		}
	}
	return t.run(ctx)
}

// mountFrom is the repository to mount b from: one that has it, or else this
// one, which makes the request an inquiry whether it is here already.
func (r *repository) mountFrom(b layer.Blob, src Source) string {
	if src.From != "" {
		if repo, ok := r.h.holds(src.From); ok {
			return repo
		}
	}
	if from, ok := r.h.blobs.Load(b.Digest); ok {
		return from.(string)
	}
	return r.name
}

// holds tells what a reference's repository is called on h: h is its registry,
// or a mirror of that, which may be pushed to as well.
func (h *host) holds(ref string) (repo string, ok bool) {
	t, err := ParseReference(ref)
	if err != nil {
		return "", false
	}
	if t.Domain == h.name {
		return t.Repo, true
	}
	places, _ := h.c.sources(t)
	for _, p := range places {
		if p.host.addr == h.addr {
			return p.repo, true
		}
	}
	return "", false
}

// begin starts an upload. One request asks for the blob and begins to send
// it: a mount that does not succeed is an upload. It returns no location when
// the blob is there.
func (r *repository) begin(ctx context.Context, b layer.Blob, from string) (*url.URL, error) {
	there, location, err := r.start(ctx, false, url.Values{"mount": {string(b.Digest)}, "from": {from}}, from)
	if there || err == nil && from == r.name {
		return location, nil
	}
	if err != nil && (errors.Is(err, ErrUnreachable) || ctx.Err() != nil || from == r.name && errors.Is(err, ErrUnauthorized)) {
		return nil, err
	}
	// No right to mount, or not there: the ordinary way.
	resp, herr := r.h.do(ctx, call{method: http.MethodHead, path: r.name + "/blobs/" + string(b.Digest), repo: r.name, scopes: pushScope(r.name)})
	if herr == nil {
		return nil, resp.Body.Close()
	}
	if !errors.Is(herr, ErrNotFound) {
		return nil, herr
	}
	if err == nil {
		return location, nil
	}
	_, location, err = r.start(ctx, false, nil)
	return location, err
}

// start asks for an upload, once or as often as it takes. When query names a mount
// that succeeds, the blob is there.
func (r *repository) start(ctx context.Context, once bool, query url.Values, from ...string) (there bool, location *url.URL, err error) {
	resp, err := r.h.do(ctx, call{
		method: http.MethodPost, path: r.name + "/blobs/uploads/", query: query, repo: r.name, scopes: pushScope(r.name, from...), once: once,
	})
	if err != nil {
		return false, nil, err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return true, nil, nil
	}
	if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && n > 0 {
		r.h.leastChunk.Store(n)
	}
	location, err = r.h.location(resp)
	return false, location, err
}

// takeBack ends an upload that is not wanted. Should that fail, it goes when it is old.
func (r *repository) takeBack(ctx context.Context, at *url.URL) {
	resp, err := r.h.do(ctx, call{method: http.MethodDelete, url: at, repo: r.name, scopes: pushScope(r.name), once: true})
	if err == nil {
		resp.Body.Close()
	}
}

// location is where an upload is, or goes on.
func (h *host) location(resp *http.Response) (*url.URL, error) {
	location, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, &permanent{fmt.Errorf("registry %s begins an upload without saying where", h.name)}
	}
	if location.Host == h.addr {
		location.Scheme = h.current().name // a proxy before the registry may have made http of https
	}
	if location.Scheme != "https" && location.Scheme != h.current().name {
		return nil, &permanent{fmt.Errorf("registry %s wants the upload to go to %s://%s", h.name, location.Scheme, location.Host)}
	}
	return location, nil
}
