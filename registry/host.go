package registry

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
)

// A host is a registry, or a mirror of one, as this client speaks to it.
type host struct {
	c          *Client
	name       string        // for people and credentials: docker.io, localhost:5000
	addr       string        // host:port of its URLs
	registry   name.Registry // the same
	mirrors    string        // the domain that it is a mirror of
	schemes    []scheme      // to be tried in order
	scheme     atomic.Int32
	spoke      atomic.Bool     // it has answered once
	near       atomic.Int32    // how near the address is that answered
	own        *http.Transport // with what certificates this host needs; nil for those of the client
	trust      *http.Transport // the same for its token server: no certificate is shown
	broken     error           // what is wrong with those certificates
	leastChunk atomic.Int64    // bytes of a chunk that it takes
	noChunks   atomic.Bool     // it takes none
	notAhead   atomic.Bool     // nor blobs of which it does not know the digest
	down       atomic.Bool     // it could not be reached
	auth       authorizer
	slots      chan struct{}
	blobs      sync.Map // layer.Digest -> repository here that has it
}

type scheme struct {
	name  string
	check bool // the certificate
}

// host returns the one host for a domain.
func (c *Client) host(domain string) *host {
	return c.hostFor(endpoint{domain: domain})
}

// pushHost returns the host that t is pushed to.
func (c *Client) pushHost(t Reference) (*host, error) {
	insecure, err := c.o.Rules.Push(t.String())
	if err != nil {
		return nil, err
	}
	return c.hostFor(endpoint{domain: t.Domain, insecure: insecure}), nil
}

// An endpoint is a registry with all that makes it another host.
type endpoint struct {
	domain   string
	mirrors  string // the domain that it is a mirror of
	plain    bool   // HTTP alone
	insecure bool   // HTTP, and any certificate, will do
}

// An origin is a repository to pull from.
type origin struct {
	*host
	repo string
}

// sources are the places to pull t from; all but the last are mirrors.
func (c *Client) sources(t Reference) ([]origin, error) {
	var all []origin
	for _, m := range c.o.Mirrors[t.Domain] {
		m, plain := strings.CutPrefix(m, "http://")
		domain, path, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(m, "https://"), "/"), "/")
		all = append(all, origin{c.hostFor(endpoint{domain: domain, mirrors: t.Domain, plain: plain}), strings.TrimPrefix(path+"/"+t.Repo, "/")})
	}
	places, err := c.o.Rules.Pull(t.String())
	if err != nil {
		return nil, err
	}
	for _, p := range places {
		at := t
		if p.Ref != t.String() {
			if at, err = ParseReference(p.Ref); err != nil {
				return nil, fmt.Errorf("a rule for registries leads to %q: %w", p.Ref, err)
			}
		}
		e := endpoint{domain: at.Domain, insecure: p.Insecure}
		if p.Mirror {
			e.mirrors = t.Domain
		}
		all = append(all, origin{c.hostFor(e), at.Repo})
	}
	return all, nil
}

func (c *Client) hostFor(e endpoint) *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[e]
	if h == nil {
		h = c.newHost(e)
		c.hosts[e] = h
	}
	return h
}

func (c *Client) newHost(e endpoint) *host {
	h := &host{c: c, name: e.domain, addr: e.domain, mirrors: e.mirrors, slots: make(chan struct{}, uploadsAtOnce)}
	if e.domain == hubName {
		h.addr = hubHost
	}
	h.registry, _ = name.NewRegistry(h.addr) // which every domain fits that got here
	insecure := e.insecure || slices.Contains(c.o.Insecure, e.domain) || slices.Contains(c.o.Insecure, hostname(e.domain))
	switch {
	case e.plain:
		h.schemes = []scheme{{"http", false}}
	case isLoopback(e.domain):
		h.schemes = []scheme{{"http", false}, {"https", !insecure}}
	case insecure:
		h.schemes = []scheme{{"https", false}, {"http", false}}
	default:
		h.schemes = []scheme{{"https", true}}
	}
	h.own, h.trust, h.broken = c.transports(h.name, h.addr, insecure)
	return h
}

func (h *host) current() scheme { return h.schemes[h.scheme.Load()] }

// switchFrom goes on to the next scheme after s, if there is one; else the
// next request begins with the first again.
func (h *host) switchFrom(s scheme) bool {
	i := int32(slices.Index(h.schemes, s))
	if h.scheme.Load() != i {
		return true // somebody has
	}
	if int(i)+1 < len(h.schemes) {
		h.scheme.CompareAndSwap(i, i+1)
		return true
	}
	h.scheme.CompareAndSwap(i, 0)
	return false
}

// transport is what carries requests to h itself.
func (h *host) transport(s scheme) *http.Transport {
	if h.own != nil {
		return h.own
	}
	return h.foreign(s)
}

// foreign is what carries requests to where h leads: to its token server, or
// to the target of a redirect.
func (h *host) foreign(s scheme) *http.Transport {
	switch {
	case s.name == "https" && !s.check:
		return h.c.lenient
	case h.trust != nil:
		return h.trust
	}
	return h.c.checked
}

// url is that of an API path, "" for the API itself.
func (h *host) url(path string, query url.Values) *url.URL {
	return &url.URL{Scheme: h.current().name, Host: h.addr, Path: "/v2/" + path, RawQuery: query.Encode()}
}

// hostname is a domain without its port and brackets.
func hostname(domain string) string {
	if host, _, err := net.SplitHostPort(domain); err == nil {
		return host
	}
	return strings.Trim(domain, "[]")
}

func isLoopback(domain string) bool {
	name := hostname(domain)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.IsLoopback()
}
