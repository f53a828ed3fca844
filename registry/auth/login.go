package auth

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/transport"
)

// Login verifies user and password with the registry at host, and stores them
// like docker: in the file of k, or with the helper that it names.
func Login(ctx context.Context, o transport.Options, k Keychain, host, user, password string) error {
	domain, err := loginDomain(host)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if user == "" || password == "" {
		return fmt.Errorf("log in to %s: user or password is empty", domain)
	}
	if strings.Contains(user, ":") {
		return fmt.Errorf("log in to %s: user name contains a colon", domain)
	}
	cred := transport.Credential{AuthConfig: authn.AuthConfig{Username: user, Password: password}, Source: "this login"}
	if _, err := verify(ctx, o, domain, cred); err != nil {
		return fmt.Errorf("log in to %s: %w", domain, err)
	}
	if err := k.store(ctx, domain, user, password); err != nil {
		return fmt.Errorf("log in to %s: %w", domain, err)
	}
	return nil
}

// Logout removes the credentials for host from the file of k and from its
// helper. It is not an error if there are none.
func Logout(k Keychain, host string) error {
	domain, err := loginDomain(host)
	if err == nil {
		err = k.erase(context.Background(), domain)
	}
	if err != nil {
		return fmt.Errorf("log out of %s: %w", host, err)
	}
	return nil
}

// Account is the user that a registry knows a client as.
type Account struct {
	User   string // empty for a token
	Source string // the place of the credentials
	// Asked reports whether the registry asked for the credentials. If it
	// admits everybody, it has not verified them.
	Asked bool
}

// WhoAmI finds the credentials for a registry, or for a repository of one, and
// verifies them with the registry. It is an error if there are none.
func WhoAmI(ctx context.Context, o transport.Options, k Keychain, name string) (Account, error) {
	host, repo, _ := strings.Cut(strings.TrimSuffix(trimKey(name), "/"), "/")
	domain, err := loginDomain(host)
	if err == nil && repo != "" {
		_, err = reference.Parse("x.invalid/" + repo)
	}
	if err != nil {
		return Account{}, err
	}
	cred, err := k.Lookup(ctx, domain, repo)
	if err != nil {
		return Account{}, err
	}
	if cred.Empty() {
		text := fmt.Sprintf("not logged in to registry %s: no credentials in %s; log in with: cairn login %s", domain, k.Searched(cred), domain)
		return Account{}, &transport.Error{Kind: transport.ErrUnauthorized, Text: text, Err: transport.ErrUnauthorized}
	}
	asked, err := verify(ctx, o, domain, cred)
	if err != nil {
		return Account{}, err
	}
	return Account{User: cred.Username, Source: cred.Source, Asked: asked}, nil
}

// verify sends one request with cred to a registry and reports whether the
// registry asked for credentials.
func verify(ctx context.Context, o transport.Options, domain string, cred transport.Credential) (asked bool, err error) {
	p, err := transport.New(o, fixed(cred))
	if err != nil {
		return false, err
	}
	defer p.Close()
	h := p.Host(transport.HostConfig{Domain: domain})
	resp, err := h.Do(ctx, transport.Request{Method: http.MethodGet})
	if err != nil {
		return false, err
	}
	return h.AskedForCredentials(), resp.Body.Close()
}

// fixed is one credential for all registries.
type fixed transport.Credential

func (f fixed) Lookup(context.Context, string, string) (transport.Credential, error) {
	return transport.Credential(f), nil
}
func (f fixed) Searched(transport.Credential) string { return f.Source }

// loginDomain returns the domain of a registry from a name as users write it.
func loginDomain(host string) (string, error) {
	domain := trimKey(host)
	if domain == "" || domain == "index.docker.io" || domain == reference.HubHost {
		domain = reference.Hub
	}
	if strings.Contains(domain, "/") {
		return "", fmt.Errorf("%q: want host or host:port of a registry", host)
	}
	return domain, reference.ValidDomain(domain)
}
