package transport

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Credentials finds credentials for registries.
type Credentials interface {
	// Lookup returns the credential for a repository of a registry, or an
	// empty one if there is none. Repo may be empty.
	Lookup(ctx context.Context, domain, repo string) (Credential, error)
	// Searched lists the places where Lookup searched when it returned the
	// empty credential none, for error texts.
	Searched(none Credential) string
}

type noCredentials struct{}

func (noCredentials) Lookup(context.Context, string, string) (Credential, error) {
	return Credential{}, nil
}
func (noCredentials) Searched(Credential) string { return "no place" }

// Credential is a user name and password or a token for a registry. Its text
// names source and user, never a secret. It is an [authn.Authenticator].
type Credential struct {
	authn.AuthConfig
	// Source names the place where the credential was found. If the credential
	// is empty, it may name a problem that kept one from being found.
	Source string
	// Remedy, unless "", is another remedy than to log in again if a registry
	// refuses the credential.
	Remedy string
}

// Authorization implements [authn.Authenticator].
func (c Credential) Authorization() (*authn.AuthConfig, error) { return &c.AuthConfig, nil }

// Empty reports whether c has neither a user nor a token.
func (c Credential) Empty() bool {
	return c.Username == "" && c.IdentityToken == "" && c.RegistryToken == ""
}

func (c Credential) authenticator() authn.Authenticator {
	if c.Empty() {
		return authn.Anonymous
	}
	return c
}

func (c Credential) String() string {
	if c.Username != "" {
		return fmt.Sprintf("the credentials of %q from %s", c.Username, c.Source)
	}
	return "the token from " + c.Source
}

// GoString keeps secrets out of %#v.
func (c Credential) GoString() string { return c.String() }
