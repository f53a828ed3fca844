package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Request is a request to a registry, which may have to be sent several times.
type Request struct {
	Method string
	Path   string     // below /v2/
	Query  url.Values // of Path
	URL    *url.URL   // instead of Path and Query: from a Location header
	Repo   string     // the repository whose credentials are used
	Scopes []string   // that a token must have
	Header map[string]string
	Body   func() (io.ReadCloser, error) // opens the body for each attempt; nil for none
	Size   int64                         // of the body in bytes, or -1
	Once   bool                          // do not retry, except with credentials
}

// Do sends r until it is answered, and explains its failure. The caller closes
// the body of the response.
func (h *Host) Do(ctx context.Context, r Request) (resp *http.Response, err error) {
	err = h.attempt(ctx, r.Repo, r.Scopes, r.Once, func(rt http.RoundTripper) (err error) {
		resp, err = h.send(ctx, r, rt)
		return err
	})
	return resp, err
}

// Attempt calls work with a round tripper that is authorized for scopes of repo,
// again and again until it succeeds or a retry would not help, and explains its
// failure.
func (h *Host) Attempt(ctx context.Context, repo string, scopes []string, work func(http.RoundTripper) error) error {
	return h.attempt(ctx, repo, scopes, false, work)
}

func (h *Host) attempt(ctx context.Context, repo string, scopes []string, once bool, work func(http.RoundTripper) error) error {
	if h.certErr != nil {
		return Permanent(h.certErr)
	}
	retries := h.Retries()
	for {
		cred, err := h.try(ctx, repo, scopes, work)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && !once && retries.Wait(ctx, err) == nil {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if h.IsMirror() && !h.answered.Load() {
			h.unreachable.Store(true)
		}
		return h.explain(err, cred)
	}
}

// maxAuthAttempts limits how often a request is sent again with other
// credentials.
const maxAuthAttempts = 3

// try calls work once, and again with other credentials or by the host's other
// scheme if an answer asks for that. It returns the credential of the last call.
func (h *Host) try(ctx context.Context, repo string, scopes []string, work func(http.RoundTripper) error) (Credential, error) {
	for attempt := 0; ; attempt++ {
		used := h.conn.current()
		auth, fresh, err := h.auth.authorize(ctx, repo, scopes)
		if err != nil { // the token server refused
			if attempt < maxAuthAttempts && refused(err) && h.auth.renew(ctx, repo, auth) {
				continue
			}
			return auth.cred, err
		}
		err = networkError(work(auth.Wrapper))
		if err == nil {
			h.answered.Store(true)
			return auth.cred, nil
		}
		if h.wrongScheme(used, attempt, err) && h.conn.switchFrom(used) {
			continue
		}
		var status *statusError
		if !errors.As(err, &status) {
			return auth.cred, err
		}
		h.answered.Store(true)
		if attempt < maxAuthAttempts && refused(err) && h.auth.refused(ctx, repo, auth, fresh, status) {
			continue
		}
		return auth.cred, err
	}
}

// networkError returns an error of sending a request without its URL, since the
// caller adds its own context. An error of another kind is made permanent: a
// response was received, so a retry would not help.
func networkError(err error) error {
	if err == nil {
		return nil
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return Permanent(err)
}

// wrongScheme reports whether err shows that the host does not speak scheme s.
func (h *Host) wrongScheme(s scheme, attempt int, err error) bool {
	if isPlainHTTP(err) || isDial(err) && !h.hasPort() {
		return attempt < len(h.conn.all)
	}
	var status *statusError
	return s.name == "http" && errors.As(err, &status) && status.code == http.StatusBadRequest && status.wantsTLS
}

// hasPort reports whether the host's address has a port, which is then the same
// for both schemes.
func (h *Host) hasPort() bool {
	_, _, err := net.SplitHostPort(h.Addr())
	return err == nil
}

// send sends one request.
func (h *Host) send(ctx context.Context, r Request, rt http.RoundTripper) (*http.Response, error) {
	u := r.URL
	if u == nil {
		u = h.conn.url(r.Path, r.Query)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range r.Header {
		req.Header.Set(k, v)
	}
	if r.Body != nil {
		if err := setBody(req, r); err != nil {
			return nil, err
		}
	}
	client := http.Client{Transport: rt}
	return client.Do(req)
}

func setBody(req *http.Request, r Request) error {
	body, err := r.Body()
	if err != nil {
		return err
	}
	req.Body, req.GetBody, req.ContentLength = body, r.Body, r.Size
	if r.Size == 0 {
		body.Close()
		req.Body, req.GetBody = http.NoBody, nil
	}
	return nil
}
