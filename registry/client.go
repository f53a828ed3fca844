// Package registry pulls images from registries and pushes images to them.
//
// The client sends as few requests as it can. Pushing an image that its tag
// already refers to costs one request; layers that the tag's manifest lists are
// not asked for one by one. All downloaded bytes are verified against their
// digest while they stream, and interrupted downloads and uploads are resumed.
//
// Package registry/transport sends the requests, with authorization and retries,
// and registry/auth finds the credentials. Manifests are transferred by
// go-containerregistry. Blobs are transferred here, since go-containerregistry
// cannot resume a download and sends four requests instead of two for each blob
// that is pushed.
package registry

import (
	"fmt"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/registriesconf"
	"github.com/cairn-build/cairn/registry/transport"
)

// Kinds of errors, for errors.Is.
var (
	ErrNotFound     = transport.ErrNotFound
	ErrUnauthorized = transport.ErrUnauthorized
	ErrUnreachable  = transport.ErrUnreachable
)

// Options configure a [Client]. The zero value uses the credentials of docker and
// podman, and no other configuration file.
type Options struct {
	// Transport configures the connections.
	Transport transport.Options
	// Credentials finds the credentials.
	Credentials auth.Keychain
	// Mirrors lists, by domain, hosts to pull from, in order, before the domain
	// itself. A mirror is host[:port][/path], prefixed by http:// for plain HTTP.
	Mirrors map[string][]string
	// MirrorsOnly excludes the domains that Mirrors has mirrors for from pulls.
	MirrorsOnly bool
	// InsecurePull allows plain HTTP and untrusted certificates for all pulls.
	InsecurePull bool
	// Rules are those of registries.conf. Its mirrors are used after Mirrors.
	Rules *registriesconf.Set
	// ShortNames makes Rules resolve the names without a registry of images to
	// pull. Otherwise they refer to Docker Hub.
	ShortNames bool
}

// Client is a client of any number of registries, safe for concurrent use. It
// remembers tokens and the blobs that it has pushed.
type Client struct {
	o     Options
	hosts *transport.Pool

	mu    sync.Mutex
	dests map[*transport.Host]*destination
	repos map[string]*repository // by host and name
}

// New returns a client. It reads no file and sends nothing.
func New(o Options) (*Client, error) {
	hosts, err := transport.New(o.Transport, o.Credentials)
	if err != nil {
		return nil, err
	}
	for domain, mirrors := range o.Mirrors {
		for _, m := range append([]string{domain}, mirrors...) {
			m = strings.TrimPrefix(strings.TrimPrefix(m, "http://"), "https://")
			if err := reference.ValidDomain(strings.TrimSuffix(m, "/")); err != nil {
				return nil, fmt.Errorf("registry mirror %q of %q: want HOST[:PORT][/PATH] for the mirror and HOST[:PORT] for the registry: %w", m, domain, err)
			}
		}
	}
	return &Client{o: o, hosts: hosts, dests: map[*transport.Host]*destination{}, repos: map[string]*repository{}}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.hosts.Close() }

// repository returns the repository name on h for pushes.
func (c *Client) repository(h *transport.Host, name string) *repository {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.dests[h]
	if d == nil {
		d = &destination{slots: make(chan struct{}, uploadsAtOnce)}
		c.dests[h] = d
	}
	key := h.Name() + "/" + name
	r := c.repos[key]
	if r == nil {
		r = &repository{endpoint: endpoint{h, name}, client: c, dest: d, sources: map[layer.Digest]blobSource{}}
		c.repos[key] = r
	}
	return r
}
