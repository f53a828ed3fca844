// Package transport sends requests to image registries: authorized, retried,
// and with errors that name the cause and the remedy.
//
// A [Pool] holds the hosts of one client. A [Host] is a registry or a mirror of
// one. It never pings: the first real request is sent without credentials, and
// credentials are looked up only when the registry asks for them. A request
// that may succeed later is sent up to five times ([retry.Tries]). A registry may set
// the wait between two tries (Retry-After); if it asks for more than 60 seconds
// ([retry.LongestAsk]), the request fails at once.
//
// Credentials are sent to their own registry and to the token server that it
// names. They are never sent to the target of a redirect, and never over plain
// HTTP on behalf of a registry that speaks HTTPS. A realmGuard decides which
// token servers a registry may name.
//
// Challenges, tokens and error codes are read by go-containerregistry. Below its
// transport lies a conn, which picks the scheme, limits redirects, verifies
// manifests, and gives up on servers that do not answer; around it lies
// [Host.Attempt], which decides about retries.
package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/retry"
)

// Options configure the connections to registries. The zero value verifies
// certificates with the system's authorities.
type Options struct {
	// Insecure lists hosts (host or host:port) whose certificate is not
	// verified and that may speak plain HTTP.
	Insecure []string
	// CertDirs are directories like docker's certs.d. For a registry they may
	// contain a directory host[:port] with authorities (*.crt) and client
	// certificates (*.cert, *.key). The first directory that exists is used.
	CertDirs []string
	// CAs lists files with further authorities to trust by host or host:port;
	// "" applies to all hosts.
	CAs map[string][]string
	// ClientCerts are the client certificates to present by host or host:port;
	// "" applies to all hosts.
	ClientCerts map[string]ClientCert
	// UserAgent is sent with every request; empty means "cairn".
	UserAgent string
	// Patience is the time after which a stalled transfer ends; 0 means
	// [retry.Patience].
	Patience time.Duration
	// Tries is the number of attempts at a request; less than [retry.Tries] means that.
	Tries int
	// Dial opens connections; nil means [net.Dialer.DialContext] with a
	// timeout of 15 seconds.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Sleep waits before a retry; nil means [retry.Sleep].
	Sleep func(ctx context.Context, d time.Duration) error
}

// Pool holds the hosts of one client with their connections and tokens. It is
// safe for concurrent use.
type Pool struct {
	o           Options
	credentials Credentials
	checked     *http.Transport // verifies certificates
	lenient     *http.Transport // does not
	proxy       func(*http.Request) (*url.URL, error)

	mu    sync.Mutex
	hosts map[HostConfig]*Host
}

// maxIdle is the number of idle connections to keep for each host: enough for
// parallel uploads and downloads.
const maxIdle = 8

// New returns a pool that finds credentials in credentials; nil means none. It
// reads no file and sends nothing.
func New(o Options, credentials Credentials) (*Pool, error) {
	if o.UserAgent == "" {
		o.UserAgent = "cairn"
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	if o.Sleep == nil {
		o.Sleep = retry.Sleep
	}
	if credentials == nil {
		credentials = noCredentials{}
	}
	for _, h := range o.Insecure {
		if err := reference.ValidDomain(h); err != nil || strings.Contains(h, "/") {
			return nil, fmt.Errorf("insecure registry %q: want host or host:port", h)
		}
	}
	checked := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            o.Dial,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    15 * time.Second,
		ResponseHeaderTimeout:  15 * time.Minute, // a registry may copy a large upload to its storage before it answers
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         64 << 10,
		MaxResponseHeaderBytes: 1 << 20,
		DisableCompression:     true, // the digest of a layer is that of its compressed bytes
	}
	lenient := checked.Clone()
	lenient.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return &Pool{
		o: o, credentials: credentials, checked: checked, lenient: lenient, proxy: http.ProxyFromEnvironment,
		hosts: map[HostConfig]*Host{},
	}, nil
}

// Close closes idle connections.
func (p *Pool) Close() {
	p.checked.CloseIdleConnections()
	p.lenient.CloseIdleConnections()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.hosts {
		for _, t := range []*http.Transport{h.conn.own, h.conn.referred} {
			if t != nil {
				t.CloseIdleConnections()
			}
		}
	}
}

// Host returns the host of a configuration, always the same for equal ones.
func (p *Pool) Host(config HostConfig) *Host {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[config]
	if h == nil {
		h = p.newHost(config)
		p.hosts[config] = h
	}
	return h
}

func (p *Pool) newHost(config HostConfig) *Host {
	addr := config.Domain
	if addr == reference.Hub {
		addr = reference.HubHost
	}
	insecure := config.Insecure || slices.Contains(p.o.Insecure, config.Domain) || slices.Contains(p.o.Insecure, hostname(config.Domain))
	c := &conn{
		name: config.Domain, addr: addr, mirrorOf: config.MirrorOf, userAgent: p.o.UserAgent, patience: p.o.Patience, proxy: p.proxy,
		schemes: schemes{all: schemesFor(config, insecure)},
		routes:  routes{checked: p.checked, lenient: p.lenient},
	}
	own, referred, err := p.hostTransports(config.Domain, addr, insecure)
	c.own, c.referred = own, referred
	registry, _ := name.NewRegistry(addr) // valid domains only reach this point
	return &Host{
		Registry: registry, conn: c, certErr: err, credentials: p.credentials, sleep: p.o.Sleep, tries: max(p.o.Tries, retry.Tries),
		auth: authorizer{registry: registry, conn: c, credentials: p.credentials, tokens: tokenClient{registry, c, p}},
	}
}
