// Package registry talks to image registries: it finds out what a reference
// means, streams layers, and pushes images.
//
// The client sends as few requests as it can. It never pings: the first real
// request is sent as it is, and credentials are sought only when the registry
// asks for them. An image that is already there under its tag costs one
// request to push; layers that the tag's manifest lists are never asked for
// one by one. Every byte that comes in is checked against its digest while it
// streams, broken downloads go on where they stopped, and what a registry
// asks to be tried later is tried later (Retry-After).
//
// Credentials come from docker's and podman's files and their helpers. They
// are sent to the registry that they belong to and to the token server that
// it names, never to the host of a redirect, and never by plain HTTP on
// behalf of a registry that speaks HTTPS.
//
// The protocol is go-containerregistry's: credentials (authn), challenges,
// tokens and what errors mean (transport), manifests (remote). What it lacks
// is done in a transport beneath its own (wire, tokenWire) and in the loop
// around it (attempt): the first real request stands for its ping, a 429 is
// tried again when the registry says and not within milliseconds, and a token
// server on a private network is welcome beside a registry on the same. Blobs
// are streamed here, over its transport: it cannot take up a broken download,
// and would send four requests for each blob that is pushed, not two.
package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/retry"
	"github.com/cairn-build/cairn/registry/rules"
)

// Options say how registries are reached. The zero value is usual.
type Options struct {
	// Insecure are hosts (host or host:port) whose certificate is not
	// checked, and that may speak plain HTTP.
	Insecure []string
	// Mirrors are asked in order before the host itself, for pulls only. A
	// mirror is host[:port][/path], with http:// before it for plain HTTP.
	Mirrors map[string][]string
	// Docker is the folder of docker's config.json, and then the only place
	// that is asked for credentials; empty means the usual places.
	Docker string
	// AuthFile is a file in the form of docker's config.json or podman's
	// auth.json, and then the only place that is asked for credentials, and
	// where Login keeps them; empty means the usual places.
	AuthFile string
	// Rules are those of podman and the like, beside Insecure and Mirrors;
	// mirrors of theirs are asked after Mirrors.
	Rules *rules.Set
	// ShortNames has Rules say what names without a registry mean that are to be
	// pulled; else they mean Docker Hub.
	ShortNames bool
	// CertDirs are folders like docker's certs.d: for a registry they may have
	// a folder host[:port] with authorities (*.crt) and certificates for this
	// client (*.cert, *.key). The first that has one counts.
	CertDirs []string
	// CAs are files with further authorities to trust, and ClientCerts the
	// certificates to show, by host or host:port; "" is for all.
	CAs         map[string][]string
	ClientCerts map[string]ClientCert
	// UserAgent is sent with every request; empty means "cairn".
	UserAgent string
}

// Client is a client of any number of registries, safe for concurrent use. It
// remembers tokens, and what it has pushed where.
type Client struct {
	o       Options
	checked *http.Transport // verifies certificates
	lenient *http.Transport // does not
	proxy   func(*http.Request) (*url.URL, error)
	sleep   func(context.Context, time.Duration) error

	mu    sync.Mutex
	hosts map[endpoint]*host
	repos map[string]*repository
}

const uploadsAtOnce = 4 // for each registry

// New makes a client; nothing is read or sent yet.
func New(o Options) (*Client, error) {
	if o.UserAgent == "" {
		o.UserAgent = "cairn"
	}
	for _, h := range o.Insecure {
		if err := validDomain(h); err != nil || strings.Contains(h, "/") {
			return nil, fmt.Errorf("insecure registry %q: want host or host:port", h)
		}
	}
	for domain, mirrors := range o.Mirrors {
		for _, m := range append([]string{domain}, mirrors...) {
			m = strings.TrimPrefix(strings.TrimPrefix(m, "http://"), "https://")
			if err := validDomain(strings.TrimSuffix(m, "/")); err != nil {
				return nil, fmt.Errorf("registry mirror %q of %q: want host[:port][/path], of a registry's host[:port]: %w", m, domain, err)
			}
		}
	}
	checked := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    2 * uploadsAtOnce,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    15 * time.Second,
		ResponseHeaderTimeout:  15 * time.Minute, // a registry may move a large upload to its storage before it answers
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         64 << 10,
		MaxResponseHeaderBytes: 1 << 20,
		DisableCompression:     true, // a layer must come as it is
	}
	lenient := checked.Clone()
	lenient.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return &Client{
		o: o, checked: checked, lenient: lenient, proxy: http.ProxyFromEnvironment, sleep: retry.Sleep,
		hosts: map[endpoint]*host{}, repos: map[string]*repository{},
	}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() {
	c.checked.CloseIdleConnections()
	c.lenient.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hosts {
		for _, t := range []*http.Transport{h.own, h.trust} {
			if t != nil {
				t.CloseIdleConnections()
			}
		}
	}
}

// validDomain takes host[:port], with a path behind it for mirrors.
func validDomain(spec string) error {
	domain, path, _ := strings.Cut(spec, "/")
	if path != "" {
		if _, err := parse("x.invalid/" + path); err != nil {
			return err
		}
	}
	u, err := url.Parse("//" + domain)
	if err != nil || domain == "" || u.Host != domain || u.Hostname() == "" || u.User != nil || badRunes.MatchString(domain) {
		return fmt.Errorf("%q is not a host, want host or host:port", spec)
	}
	return nil
}

// retries counts the attempts at one thing.
type retries struct {
	h    *host
	done int
}

// again waits before the next attempt after err. It returns err itself when
// there is to be none.
func (r *retries) again(ctx context.Context, err error) error {
	r.done++
	wait, ok := r.h.retryable(err)
	if !ok || r.done >= retry.Tries || ctx.Err() != nil {
		return err
	}
	if wait == 0 {
		wait = retry.Wait(r.done)
	}
	return r.h.c.sleep(ctx, wait)
}

// flight is something that is done once however many ask for it at the same
// time. When it fails, the next one to ask tries again.
type flight[T any] struct {
	lock  chan struct{} // of capacity 1
	done  bool
	value T
}

func newFlight[T any]() *flight[T] { return &flight[T]{lock: make(chan struct{}, 1)} }

func (f *flight[T]) do(ctx context.Context, work func() (T, error)) (T, error) {
	select {
	case f.lock <- struct{}{}:
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
	defer func() { <-f.lock }()
	if f.done {
		return f.value, nil
	}
	v, err := work()
	if err == nil {
		f.done, f.value = true, v
	}
	return v, err
}

// repository returns what is known of a repository on h.
func (c *Client) repository(h *host, name string) *repository {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := h.name + "/" + name
	r := c.repos[key]
	if r == nil {
		r = &repository{h: h, name: name, blobs: map[layer.Digest]*flight[struct{}]{}, given: map[layer.Digest]given{}}
		c.repos[key] = r
	}
	return r
}
