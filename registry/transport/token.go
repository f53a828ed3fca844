package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/cairn-build/cairn/registry/retry"
)

// A tokenClient asks the token servers of one registry for tokens.
type tokenClient struct {
	registry name.Registry
	conn     *conn // to the registry
	hosts    *Pool // for the certificates of token servers
}

// A tokenError is an error of a registry's token server.
type tokenError struct {
	server string
	err    error
}

func (e *tokenError) Error() string { return "token server " + e.server + ": " + e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

// defaultTokenLife applies if the token server names no time.
const defaultTokenLife = 60 * time.Second

// placeholderHost is the token server's name towards go-containerregistry, which
// refuses token servers on private networks even if the registry is on one. The
// real name has passed the realmGuard.
const placeholderHost = "token-server.invalid"

// translate returns c in go-containerregistry's form.
func (c *conn) translate(ch challenge) *transport.Challenge {
	insecure := c.current().name == "http"
	if ch.basic {
		return &transport.Challenge{Scheme: "basic", Insecure: insecure}
	}
	params := map[string]string{"realm": "https://" + placeholderHost, "service": ch.service}
	return &transport.Challenge{Scheme: "bearer", Insecure: insecure, Parameters: params}
}

// exchange asks the token server of a challenge for a token and returns it with
// its life. An error that is worth a retry is a *tokenError.
func (t tokenClient) exchange(ctx context.Context, c challenge, scopes []string, cred Credential) (*transport.Token, time.Duration, error) {
	realm, err := url.Parse(c.realm)
	if err == nil {
		err = t.conn.realmGuard().check(realm)
	}
	if err != nil {
		return nil, 0, Permanent(fmt.Errorf("registry %s names a token server that cannot be used: %w", t.conn.name, err))
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(t.conn.patience, retry.Patience))
	defer cancel()
	rt := tokenRoundTripper{t, realm, cred.Username}
	token, err := transport.Exchange(ctx, t.registry, cred.authenticator(), rt, scopes, t.conn.translate(c))
	if failed := (*tokenError)(nil); errors.As(err, &failed) {
		return nil, 0, failed
	}
	if err != nil { // not part of the new error: it may contain secrets
		return nil, 0, Permanent(fmt.Errorf("token server %s returned no token", realm.Host))
	}
	token.Token = cmp.Or(token.Token, token.AccessToken)
	if strings.ContainsAny(token.Token, "\r\n") {
		return nil, 0, Permanent(fmt.Errorf("token server %s returned an invalid token", realm.Host))
	}
	if token.ExpiresIn > 0 {
		return token, time.Duration(token.ExpiresIn) * time.Second, nil
	}
	return token, defaultTokenLife, nil
}

// A tokenRoundTripper sends requests for placeholderHost to the token server
// and follows its redirects.
type tokenRoundTripper struct {
	tokenClient
	realm *url.URL
	user  string
}

func (t tokenRoundTripper) RoundTrip(in *http.Request) (*http.Response, error) {
	req := in.Clone(in.Context())
	u := *t.realm
	q := u.Query()
	for k, v := range in.URL.Query() {
		q[k] = v
	}
	if t.user != "" {
		q.Set("account", t.user)
	}
	u.RawQuery = q.Encode()
	req.URL, req.Host = &u, u.Host
	req.Header.Set("User-Agent", t.conn.userAgent)
	route, err := t.route(&u)
	if err != nil {
		return nil, Permanent(err)
	}
	client := http.Client{Transport: route, CheckRedirect: t.checkRedirect}
	resp, err := client.Do(req)
	if err == nil && resp.StatusCode >= 300 && (resp.StatusCode != http.StatusNotFound || in.Method == http.MethodGet) {
		err = newStatusError(resp)
	}
	if err != nil {
		return nil, &tokenError{u.Host, err}
	}
	return resp, nil
}

// route returns the transport for the token server at u: the registry's if it
// is the same host, one with the token server's own authorities if there are
// any, and otherwise the one for hosts that the registry refers to.
func (t tokenClient) route(u *url.URL) (*http.Transport, error) {
	s := scheme{u.Scheme, true}
	if u.Host == t.conn.addr {
		s.verify = t.conn.current().verify
		return t.conn.toHost(s), nil
	}
	server := t.hosts.Host(HostConfig{Domain: u.Host})
	if server.conn.referred != nil {
		return server.conn.referred, nil
	}
	return t.conn.toOther(s), server.certErr
}

// checkRedirect limits redirects to hosts that the realmGuard allows. Credentials
// stay with the host that the registry named.
func (t tokenRoundTripper) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if err := t.conn.realmGuard().check(req.URL); err != nil {
		return Permanent(fmt.Errorf("token server %s redirects to a URL that cannot be used: %w", t.realm.Host, err))
	}
	if req.URL.Host != t.realm.Host || req.URL.Scheme != t.realm.Scheme {
		req.Header.Del("Authorization")
		if req.Method != http.MethodGet {
			return Permanent(fmt.Errorf("token server %s redirects a refresh token to %s", t.realm.Host, req.URL.Host))
		}
	}
	return nil
}
