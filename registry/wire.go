package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// A wire is what lies beneath go-containerregistry's transport, and does what
// that lacks: it speaks the scheme that the registry was found to speak,
// gives up on silence, follows redirects with care, and checks manifests. An
// answer that says no comes back as a *statusError, so that whoever decides
// about retries sees how long to wait.
type wire struct{ h *host }

// answerTime is how long a request without a body may wait for its headers,
// and a download for its next bytes.
const answerTime = 60 * time.Second

func (w wire) RoundTrip(in *http.Request) (*http.Response, error) {
	s := w.h.current()
	if in.Response == nil && in.URL.Host == w.h.addr {
		in.URL.Scheme = s.name // as go-containerregistry's own transport sets it
	}
	if err := w.h.redirected(in, s); err != nil {
		if in.Body != nil {
			in.Body.Close()
		}
		return nil, &permanent{err}
	}
	ctx, cancel := context.WithCancelCause(in.Context())
	req := in.Clone(ctx)
	req.Header.Set("User-Agent", w.h.c.o.UserAgent)
	own := w.h.owns(req.URL, s)
	if !own {
		req.Header.Del("Authorization")
	}
	if own && in.Response == nil && w.h.mirrors != "" {
		q := req.URL.Query()
		q.Set("ns", w.h.mirrors)
		req.URL.RawQuery = q.Encode()
	}
	stop := func() bool { return true }
	if req.Body == nil || req.Body == http.NoBody {
		stop = time.AfterFunc(answerTime, func() { cancel(errSlow) }).Stop
	}
	transport := w.h.foreign(s)
	if own {
		transport = w.h.transport(s)
		req = req.WithContext(w.h.watch(req))
	}
	resp, err := transport.RoundTrip(req)
	stop()
	if err != nil {
		err = causeOf(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &cancelBody{resp.Body, cancel}
	if resp.StatusCode >= 400 {
		status := newStatusError(resp)
		if own { // else a redirect led elsewhere: nothing of ours goes there
			status.challenges = resp.Header.Values("WWW-Authenticate")
		}
		return nil, status
	}
	if id, ok := manifestID(in); ok && resp.StatusCode == http.StatusOK {
		if err := w.h.verify(resp, id); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// maxRedirects is what net/http allows by itself. go-containerregistry, which looks at
// each redirect, has no bound.
const maxRedirects = 10

// redirected refuses a request that redirects should not have led to.
func (h *host) redirected(in *http.Request, s scheme) error {
	if in.Response != nil && s.name == "https" && in.URL.Scheme != "https" {
		return fmt.Errorf("registry %s redirects to plain HTTP on %s", h.name, in.URL.Host)
	}
	n := 0
	for req := in; req.Response != nil && req.Response.Request != nil; req = req.Response.Request {
		if n++; n > maxRedirects {
			return fmt.Errorf("registry %s redirects more than %d times", h.name, maxRedirects)
		}
	}
	return nil
}

// watch notes how near the address is that a request to h itself goes to.
func (h *host) watch(req *http.Request) context.Context {
	if via, err := h.c.proxy(req); via != nil || err != nil {
		return req.Context() // the address will be the proxy's
	}
	return httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if at, err := netip.ParseAddrPort(got.Conn.RemoteAddr().String()); err == nil {
			h.near.Store(int32(reach(at.Addr().String())))
		}
	}})
}

// manifestID says what manifest a request asks for, or the one that was
// redirected to it.
func manifestID(req *http.Request) (string, bool) {
	if req.Method != http.MethodGet {
		return "", false
	}
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	dir, id, _ := strings.Cut(req.URL.Path, "/manifests/")
	return id, strings.HasPrefix(dir, "/v2/") && id != ""
}

// verify reads a manifest, and checks its digest against what it was asked
// for by, or else what the registry says of it.
func (h *host) verify(resp *http.Response, id string) error {
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return err
	}
	if len(raw) > maxManifest {
		return &permanent{fmt.Errorf("the answer of registry %s is larger than %d bytes", h.name, maxManifest)}
	}
	have, want := layer.FromBytes(raw), layer.Digest(id)
	if want.Validate() != nil {
		want = layer.Digest(resp.Header.Get("Docker-Content-Digest"))
	}
	if want.Validate() == nil && have != want {
		return &permanent{&problem{errBroken, fmt.Sprintf("the manifest that came has digest %s, not %s", have, want), errBroken}}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	return nil
}

// owns says whether u is of h itself, so that credentials may go there.
func (h *host) owns(u *url.URL, s scheme) bool {
	return u.Host == h.addr && u.Scheme == s.name
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

func speaksTLS(body []byte) bool {
	return bytes.Contains(body, []byte("HTTP request to an HTTPS server")) ||
		bytes.Contains(body, []byte("plain HTTP request was sent to HTTPS port"))
}
