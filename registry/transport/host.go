package transport

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// HostConfig identifies a host connection: a domain plus its TLS settings.
type HostConfig struct {
	Domain    string // host or host:port, or docker.io
	MirrorOf  string // the domain of the registry if this is a mirror of it
	PlainHTTP bool   // speak HTTP only
	Insecure  bool   // allow HTTP and do not verify the certificate
}

// Host is a registry, or a mirror of one, that requests are sent to. It is safe
// for concurrent use.
type Host struct {
	// Registry is the host as go-containerregistry names it.
	Registry name.Registry

	conn        *conn
	auth        authorizer
	credentials Credentials // for the text of errors
	sleep       func(context.Context, time.Duration) error
	tries       int
	certErr     error // why its certificates cannot be used

	answered    atomic.Bool // it has answered a request
	unreachable atomic.Bool // it is a mirror that did not answer its first request
}

// Name returns the name of the host in error texts and credentials, such as
// docker.io or localhost:5000.
func (h *Host) Name() string { return h.conn.name }

// Addr returns the host:port of its URLs.
func (h *Host) Addr() string { return h.conn.addr }

// IsMirror reports whether h is a mirror of another registry.
func (h *Host) IsMirror() bool { return h.conn.mirrorOf != "" }

// Unreachable reports whether h is a mirror that did not answer its first
// request.
func (h *Host) Unreachable() bool { return h.unreachable.Load() }

// AskedForCredentials reports whether h has answered a request with a challenge.
func (h *Host) AskedForCredentials() bool { return h.auth.challenged() }

// Location returns the URL of an upload from the Location header of an answer.
// It refuses plain HTTP for a registry that speaks HTTPS.
func (h *Host) Location(resp *http.Response) (*url.URL, error) {
	location, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, Permanent(fmt.Errorf("registry %s started an upload without a valid Location header", h.Name()))
	}
	current := h.conn.current().name
	if location.Host == h.Addr() {
		location.Scheme = current // a proxy in front of the registry may have made http of https
	}
	if location.Scheme != "https" && location.Scheme != current {
		return nil, Permanent(fmt.Errorf("registry %s redirects the upload to %s://%s: want https", h.Name(), location.Scheme, location.Host))
	}
	return location, nil
}
