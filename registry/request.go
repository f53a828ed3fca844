package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
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
	once   bool  // leave retries to the caller (but for credentials)
	limit  int64 // read an answer of at most so many bytes into memory
}

// answerTime is how long a request without a body may wait for its headers,
// and a download for its next bytes.
const answerTime = 60 * time.Second

// do sends c until it is answered, and explains what went wrong.
func (h *host) do(ctx context.Context, c call) (*http.Response, error) {
	tries := retries{h: h}
	for {
		resp, cred, err := h.try(ctx, c)
		if err == nil {
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !c.once {
			if again := tries.again(ctx, err); again == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if h.mirrors != "" && !h.spoke.Load() {
			h.down.Store(true)
		}
		return nil, h.explain(err, cred)
	}
}

// try sends c once, and again with credentials when asked for them, and by
// the other scheme when the registry does not speak this one.
func (h *host) try(ctx context.Context, c call) (*http.Response, credential, error) {
	var cred credential
	for attempt := 0; ; attempt++ {
		s := h.current()
		sent, err := h.auth.header(ctx, h, c)
		if err != nil {
			return nil, sent.cred, err
		}
		cred = sent.cred
		resp, err := h.send(ctx, c, s, sent)
		if err != nil {
			if (isPlainHTTP(err) || isDial(err) && !h.hasPort()) && attempt < len(h.schemes) && h.switchFrom(s) {
				continue
			}
			return nil, cred, err
		}
		if resp.StatusCode < 400 {
			h.spoke.Store(true)
			return resp, cred, h.buffer(resp, c)
		}
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		resp.Body.Close()
		if s.name == "http" && resp.StatusCode == http.StatusBadRequest && speaksTLS(body) && h.switchFrom(s) {
			continue
		}
		h.spoke.Store(true)
		status := newStatusError(resp, body)
		if resp.StatusCode != http.StatusUnauthorized || attempt >= 3 || !h.auth.challenged(h, resp, sent) {
			return nil, cred, status
		}
	}
}

// buffer replaces the body of resp by bytes in memory if c wants that.
func (h *host) buffer(resp *http.Response, c call) error {
	if c.limit == 0 {
		return nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, c.limit+1))
	if err != nil {
		return err
	}
	if int64(len(b)) > c.limit {
		return &permanent{fmt.Errorf("the answer of registry %s is larger than %d bytes", h.name, c.limit)}
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	resp.ContentLength = int64(len(b))
	return nil
}

// send sends one request. Credentials go to h alone: a redirect or Location
// that leads elsewhere goes without them.
func (h *host) send(ctx context.Context, c call, s scheme, auth authorization) (*http.Response, error) {
	u := c.url
	if u == nil {
		u = h.url(c.path, c.query)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, c.method, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, &permanent{err}
	}
	req.Header.Set("User-Agent", h.c.o.UserAgent)
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	if h.owns(req.URL, s) && auth.value != "" {
		req.Header.Set("Authorization", auth.value)
	}
	if c.body != nil {
		if err := setBody(req, c); err != nil {
			cancel(nil)
			return nil, &permanent{err}
		}
	}
	client := http.Client{Transport: h.transport(s), CheckRedirect: h.redirect(s)}
	stop := func() bool { return true }
	if c.body == nil {
		stop = time.AfterFunc(answerTime, func() { cancel(errSlow) }).Stop
	}
	resp, err := client.Do(req)
	stop()
	if err != nil {
		err = causeOf(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &cancelBody{resp.Body, cancel}
	return resp, nil
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

// owns says whether u is of h itself, so that credentials may go there.
func (h *host) owns(u *url.URL, s scheme) bool {
	return u.Host == h.addr && u.Scheme == s.name
}

func (h *host) redirect(s scheme) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("more than 10 redirects")
		}
		if s.name == "https" && req.URL.Scheme != "https" {
			return &permanent{fmt.Errorf("registry %s redirects to plain HTTP on %s", h.name, req.URL.Host)}
		}
		if !h.owns(req.URL, s) {
			req.Header.Del("Authorization")
		}
		return nil
	}
}

// A slowError stands for a registry that does not answer; it is a timeout.
type slowError struct{}

func (slowError) Error() string { return "no answer for " + answerTime.String() }
func (slowError) Timeout() bool { return true }

var errSlow error = slowError{}

func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// cancelBody ends the request's context when its answer has been read.
type cancelBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *cancelBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
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

func speaksTLS(body []byte) bool {
	return bytes.Contains(body, []byte("HTTP request to an HTTPS server")) ||
		bytes.Contains(body, []byte("plain HTTP request was sent to HTTPS port"))
}
