package registry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// An Account is who somebody is to a registry.
type Account struct {
	User   string // empty when a token stands for the user
	Source string // where the credentials were found
	// Asked is false when the registry lets in everybody: then it has not
	// looked at the credentials.
	Asked bool
}

// WhoAmI finds the credentials for a registry, or for a repository of one,
// and asks the registry whether it takes them. There being none is an error.
func WhoAmI(ctx context.Context, o Options, name string) (Account, error) {
	var account Account
	host, repo, _ := strings.Cut(strings.TrimSuffix(plainKey(name), "/"), "/")
	domain, err := loginDomain(host)
	if err == nil && repo != "" {
		_, err = parse("x.invalid/" + repo)
	}
	if err != nil {
		return account, err
	}
	cred, err := o.lookup(ctx, domain, repo)
	if err != nil {
		return account, err
	}
	if cred.empty() {
		text := fmt.Sprintf("nobody to registry %s: no credentials in %s; log in with: cairn login %s", domain, o.placesText(cred), domain)
		return account, &problem{ErrUnauthorized, text, ErrUnauthorized}
	}
	c, err := New(o)
	if err != nil {
		return account, err
	}
	defer c.Close()
	h := c.host(domain)
	h.auth.fixed = &cred
	resp, err := h.do(ctx, call{method: http.MethodGet})
	if err != nil {
		return account, err
	}
	h.auth.mu.Lock()
	defer h.auth.mu.Unlock()
	return Account{User: cred.Username, Source: cred.source, Asked: h.auth.challenge != nil}, resp.Body.Close()
}
