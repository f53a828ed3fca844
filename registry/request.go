package registry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
)

// A call is one request to a registry, which may have to be sent several
// times.
type call struct {
	method string
	path   string     // below /v2/
	query  url.Values // of path
	url    *url.URL   // instead of path: what a Location said
	repo   string     // whose credentials to use
	scopes []string   // what a token must allow
	header map[string]string
	body   func() (io.ReadCloser, error) // nil for none
	size   int64
	once   bool // leave retries to the caller (but for credentials)
}

// do sends c until it is answered, and explains what went wrong.
func (h *host) do(ctx context.Context, c call) (resp *http.Response, err error) {
	err = h.attempt(ctx, c.repo, c.scopes, c.once, func(rt http.RoundTripper) (err error) {
		resp, err = h.send(ctx, c, rt)
		return err
	})
	return resp, err
}

// attempt has work send something over an authorized transport until it is
// answered, and explains what went wrong.
func (h *host) attempt(ctx context.Context, repo string, scopes []string, once bool, work func(http.RoundTripper) error) error {
	if h.broken != nil {
		return &permanent{h.broken}
	}
	tries := retries{h: h}
	for {
		cred, err := h.try(ctx, repo, scopes, work)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && !once {
			if again := tries.again(ctx, err); again == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if h.mirrors != "" && !h.spoke.Load() {
			h.down.Store(true)
		}
		return h.explain(err, cred)
	}
}

// try has work done once, and again with credentials when asked for them, and
// by the other scheme when the registry does not speak this one.
func (h *host) try(ctx context.Context, repo string, scopes []string, work func(http.RoundTripper) error) (credential, error) {
	for attempt := 0; ; attempt++ {
		s := h.current()
		way, fresh, err := h.auth.way(ctx, h, repo, scopes)
		if err != nil {
			if attempt < maxAsks && refused(err) && h.auth.renew(ctx, h, repo, way) {
				continue
			}
			return way.cred, err
		}
		err = work(way.Wrapper)
		if err == nil {
			h.spoke.Store(true)
			return way.cred, nil
		}
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // its text is for those who know what URL this is about
		} else {
			err = &permanent{err} // of what came, not of its coming
		}
		if (isPlainHTTP(err) || isDial(err) && !h.hasPort()) && attempt < len(h.schemes) && h.switchFrom(s) {
			continue
		}
		var status *statusError
		if !errors.As(err, &status) {
			return way.cred, err
		}
		if s.name == "http" && status.status == http.StatusBadRequest && status.wantsTLS && h.switchFrom(s) {
			continue
		}
		h.spoke.Store(true)
		switch {
		case !refused(err) || attempt >= maxAsks:
			return way.cred, err
		case status.status == http.StatusUnauthorized && h.auth.challenged(status.challenges, way, fresh):
		case !h.auth.renew(ctx, h, repo, way):
			return way.cred, err
		}
	}
}

// maxAsks bounds how often one request is sent with other credentials.
const maxAsks = 3

func refused(err error) bool {
	return hasStatus(err, http.StatusUnauthorized, http.StatusForbidden)
}

// send sends one request.
func (h *host) send(ctx context.Context, c call, rt http.RoundTripper) (*http.Response, error) {
	u := c.url
	if u == nil {
		u = h.url(c.path, c.query)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	if c.body != nil {
		if err := setBody(req, c); err != nil {
			return nil, err
		}
	}
	client := http.Client{Transport: rt}
	return client.Do(req)
}

func setBody(req *http.Request, c call) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	req.Body, req.GetBody, req.ContentLength = body, c.body, c.size
	if c.size == 0 {
		body.Close()
		req.Body, req.GetBody = http.NoBody, nil
	}
	return nil
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// hasPort says whether h names its port, which is then the same for every
// scheme.
func (h *host) hasPort() bool {
	_, _, err := net.SplitHostPort(h.addr)
	return err == nil
}
