package transport

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
	"sync/atomic"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/retry"
)

// A conn sends requests to one host and to the targets of its redirects. It is
// the [http.RoundTripper] below go-containerregistry's transport. It uses the
// scheme that the host was found to speak, gives up on a host that does not
// answer, limits redirects, and verifies manifests. An answer with an error
// status is returned as a *statusError, which holds the time to wait before a
// retry.
type conn struct {
	name      string // in error texts and credentials: docker.io, localhost:5000
	addr      string // host:port of its URLs
	mirrorOf  string // the domain that it is a mirror of
	userAgent string
	patience  time.Duration // with stalled transfers
	proxy     func(*http.Request) (*url.URL, error)
	schemes
	routes
	class atomic.Int32 // addrClass of the address that answered
}

// routes are the transports of one host.
type routes struct {
	checked, lenient *http.Transport // those of the pool
	own              *http.Transport // with the host's authorities and client certificates; nil if it has none
	referred         *http.Transport // with its authorities only
}

// toHost returns the transport for requests to the host itself.
func (r routes) toHost(s scheme) *http.Transport {
	if r.own != nil {
		return r.own
	}
	return r.toOther(s)
}

// toOther returns the transport for requests to servers that the host refers
// to: its token server and the targets of redirects. It presents no client
// certificate.
func (r routes) toOther(s scheme) *http.Transport {
	switch {
	case s.name == "https" && !s.verify:
		return r.lenient
	case r.referred != nil:
		return r.referred
	}
	return r.checked
}

const (
	// MaxManifest is the size in bytes of the largest manifest that is read.
	MaxManifest = 4 << 20

	maxRedirects = 10 // net/http's own limit, which go-containerregistry's client does not have
)

// url returns the URL of an API path; "" is the API itself.
func (c *conn) url(path string, query url.Values) *url.URL {
	return &url.URL{Scheme: c.current().name, Host: c.addr, Path: "/v2/" + path, RawQuery: query.Encode()}
}

// owns reports whether u is a URL of the host itself, so that credentials may
// be sent to it.
func (c *conn) owns(u *url.URL, s scheme) bool { return u.Host == c.addr && u.Scheme == s.name }

func (c *conn) realmGuard() realmGuard {
	return realmGuard{c.addr, c.current().name == "http", addrClass(c.class.Load())}
}

// RoundTrip implements [http.RoundTripper].
func (c *conn) RoundTrip(in *http.Request) (*http.Response, error) {
	s := c.current()
	if in.Response == nil && in.URL.Host == c.addr {
		in.URL.Scheme = s.name // go-containerregistry's transport sets it in place too
	}
	if err := c.checkRedirect(in, s); err != nil {
		if in.Body != nil {
			in.Body.Close()
		}
		return nil, Permanent(err)
	}
	req := in.Clone(in.Context())
	own := c.owns(req.URL, s)
	c.setHeader(req, own)
	route := c.toOther(s)
	if own {
		route = c.toHost(s)
		req = req.WithContext(c.traceAddr(req))
	}
	resp, err := retry.Watched{RoundTripper: route, Patience: c.patience}.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		status := newStatusError(resp)
		if via, err := c.proxy(req); err == nil && via != nil {
			status.proxy = via.Host
		}
		if own { // not the challenge of a redirect's target: credentials are not for it
			status.challenges = resp.Header.Values("WWW-Authenticate")
		}
		return nil, status
	}
	if id, ok := manifestID(in); ok && resp.StatusCode == http.StatusOK {
		if err := c.verifyManifest(resp, id); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// setHeader adds the headers and the query that requests to the host, or to
// another server if own is false, have in common.
func (c *conn) setHeader(req *http.Request, own bool) {
	req.Header.Set("User-Agent", c.userAgent)
	if !own {
		req.Header.Del("Authorization")
	}
	if own && req.Response == nil && c.mirrorOf != "" {
		q := req.URL.Query()
		q.Set("ns", c.mirrorOf)
		req.URL.RawQuery = q.Encode()
	}
}

// checkRedirect returns an error for a request that follows one redirect too
// many, or one from HTTPS to plain HTTP.
func (c *conn) checkRedirect(in *http.Request, s scheme) error {
	if in.Response != nil && s.name == "https" && in.URL.Scheme != "https" {
		return fmt.Errorf("registry %s redirects to plain HTTP on %s", c.name, in.URL.Host)
	}
	n := 0
	for req := in; req.Response != nil && req.Response.Request != nil; req = req.Response.Request {
		if n++; n > maxRedirects {
			return fmt.Errorf("registry %s redirects more than %d times", c.name, maxRedirects)
		}
	}
	return nil
}

// traceAddr returns a context that records the class of the address that a
// request to the host itself connects to.
func (c *conn) traceAddr(req *http.Request) context.Context {
	if via, err := c.proxy(req); via != nil || err != nil {
		return req.Context() // the address will be the proxy's
	}
	return httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if at, err := netip.ParseAddrPort(got.Conn.RemoteAddr().String()); err == nil {
			c.class.Store(int32(classify(at.Addr().String())))
		}
	}})
}

// manifestID returns the tag or digest of the manifest that a request, or the
// request that was redirected to it, asks for.
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

// verifyManifest reads a manifest and compares its digest with id, or with the
// registry's Docker-Content-Digest header if id is a tag.
func (c *conn) verifyManifest(resp *http.Response, id string) error {
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifest+1))
	if err != nil {
		return err
	}
	if len(raw) > MaxManifest {
		return Permanent(fmt.Errorf("manifest from registry %s is larger than %d bytes", c.name, MaxManifest))
	}
	have, want := layer.FromBytes(raw), layer.Digest(id)
	if want.Validate() != nil {
		want = layer.Digest(resp.Header.Get("Docker-Content-Digest"))
	}
	if want.Validate() == nil && have != want {
		return Permanent(&Error{ErrCorrupt, fmt.Sprintf("manifest from registry %s has digest %s, want %s", c.name, have, want), ErrCorrupt})
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	return nil
}
