package transport

import (
	"errors"
	"fmt"
	"net/url"
)

// A realmGuard decides which token servers a registry may name. The realm of a
// challenge is chosen by the registry, and both a request and credentials
// follow it, so a hostile registry could direct them at a server that only this
// machine can reach.
type realmGuard struct {
	registry  string    // host:port of the registry
	plainHTTP bool      // the registry speaks plain HTTP
	class     addrClass // of the address that answered for the registry
}

// check returns an error unless u may be a token server of the registry. Plain
// HTTP is allowed for registries that speak it themselves. Addresses on a
// private network are allowed for registries on a private network, by their
// name or by the address that answered. Link-local addresses, where clouds
// serve their secrets, are never allowed.
func (g realmGuard) check(u *url.URL) error {
	if u.Scheme != "https" && (u.Scheme != "http" || !g.plainHTTP) {
		return fmt.Errorf("%s://%s: want https", u.Scheme, u.Host)
	}
	if u.Host == "" || u.User != nil {
		return errors.New("want a URL with a host and without a user")
	}
	if u.Host == g.registry {
		return nil
	}
	class := classify(u.Hostname())
	if class == linkLocal || class > max(classify(hostname(g.registry)), g.class) {
		return fmt.Errorf("%s: it has a private address, but registry %s does not", u.Host, g.registry)
	}
	return nil
}
