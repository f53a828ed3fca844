package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// authorizer knows how one registry wants to be authorized: not at all until
// it says so, then by basic credentials or by tokens of a token server.
type authorizer struct {
	mu        sync.Mutex
	challenge *challenge
	fixed     *credential           // of a login
	creds     map[string]credential // by repository
	tokens    map[string]token      // by scopes
}

type challenge struct {
	basic   bool
	realm   string // of the token server
	service string
}

type token struct {
	value   string
	expires time.Time
}

// authorization is what was sent with one request.
type authorization struct {
	asked bool   // it was known what the registry wants
	value string // of the header
	cred  credential
	key   string // of the token
	fresh bool   // the token was fetched for this request
}

// header is the authorization that c needs by what is known so far.
func (a *authorizer) header(ctx context.Context, h *host, c call) (authorization, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.challenge == nil {
		return authorization{}, nil
	}
	cred, err := a.credential(ctx, h, c.repo)
	if err != nil {
		return authorization{}, &permanent{err}
	}
	auth := authorization{asked: true, cred: cred}
	switch {
	case cred.RegistryToken != "":
		auth.value = "Bearer " + cred.RegistryToken
	case a.challenge.basic && cred.Username != "":
		auth.value = "Basic " + base64.StdEncoding.EncodeToString([]byte(cred.Username+":"+cred.Password))
	case !a.challenge.basic:
		auth.key = strings.Join(c.scopes, " ")
		t, ok := a.tokens[auth.key]
		if !ok || time.Now().After(t.expires) {
			auth.fresh = true
			if t, err = h.fetchToken(ctx, *a.challenge, c.scopes, cred); err != nil {
				return auth, err
			}
			a.tokens[auth.key] = t
		}
		auth.value = "Bearer " + t.value
	}
	return auth, nil
}

func (a *authorizer) credential(ctx context.Context, h *host, repo string) (credential, error) {
	if a.fixed != nil {
		return *a.fixed, nil
	}
	cred, ok := a.creds[repo]
	if ok {
		return cred, nil
	}
	cred, err := h.c.o.lookup(ctx, h.name, repo)
	if err != nil {
		return credential{}, err
	}
	if a.creds == nil {
		a.creds = map[string]credential{}
	}
	a.creds[repo] = cred
	return cred, nil
}

// challenged reads what a 401 asks for. It says whether another attempt has
// something to offer that the last one, with sent, had not.
func (a *authorizer) challenged(h *host, resp *http.Response, sent authorization) bool {
	if resp.Request == nil || !h.owns(resp.Request.URL, h.current()) {
		return false // a redirect led elsewhere: nothing of ours goes there
	}
	c, ok := parseChallenges(resp.Header.Values("WWW-Authenticate"))
	if !ok {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tokens == nil {
		a.tokens = map[string]token{}
	}
	changed := a.challenge == nil || *a.challenge != c
	a.challenge = &c
	if sent.key != "" && !sent.fresh { // the token expired early
		if "Bearer "+a.tokens[sent.key].value == sent.value {
			delete(a.tokens, sent.key)
		}
		return true
	}
	return changed || !sent.asked
}

// parseChallenges picks the challenge that can be met out of WWW-Authenticate
// headers, tokens before basic credentials.
func parseChallenges(headers []string) (challenge, bool) {
	var basic bool
	for _, header := range headers {
		for _, one := range splitChallenges(header) {
			switch scheme, params, _ := strings.Cut(one, " "); strings.ToLower(scheme) {
			case "bearer":
				p := parseParams(params)
				if p["realm"] != "" {
					return challenge{realm: p["realm"], service: p["service"]}, true
				}
			case "basic":
				basic = true
			}
		}
	}
	return challenge{basic: true}, basic
}

// splitChallenges cuts a header before each scheme: a comma, then a word that
// is followed by a space or the end rather than by "=".
func splitChallenges(header string) []string {
	var all []string
	start, quoted := 0, false
	for i := 0; i < len(header); i++ {
		switch {
		case quoted && header[i] == '\\':
			i++
		case header[i] == '"':
			quoted = !quoted
		case header[i] == ',' && !quoted:
			rest := strings.TrimLeft(header[i+1:], " ")
			word := rest[:len(rest)-len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"))]
			if after := rest[len(word):]; word != "" && (after == "" || after[0] == ' ' || after[0] == ',') {
				all = append(all, strings.TrimSpace(header[start:i]))
				start = i + 1
			}
		}
	}
	return append(all, strings.TrimSpace(header[start:]))
}

// parseParams reads key=value and key="quoted value", between commas.
func parseParams(s string) map[string]string {
	params := map[string]string{}
	for s != "" {
		s = strings.TrimLeft(s, " ,\t")
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		var value strings.Builder
		i := 0
		if strings.HasPrefix(rest, `"`) {
			for i = 1; i < len(rest) && rest[i] != '"'; i++ {
				if rest[i] == '\\' && i+1 < len(rest) {
					i++
				}
				value.WriteByte(rest[i])
			}
			i = min(i+1, len(rest))
		} else {
			for ; i < len(rest) && rest[i] != ',' && rest[i] != ' '; i++ {
				value.WriteByte(rest[i])
			}
		}
		params[strings.ToLower(strings.TrimSpace(key))] = value.String()
		s = rest[i:]
	}
	return params
}

const (
	maxToken  = 64 << 10
	tokenLife = 60 * time.Second // when the server does not say
	clientID  = "cairn"
)

// A tokenError is an error of a registry's token server.
type tokenError struct {
	server string
	err    error
}

func (e *tokenError) Error() string { return "token server " + e.server + ": " + e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

// fetchToken asks the token server of a challenge for a token. Errors that
// are worth a retry come back as they are.
func (h *host) fetchToken(ctx context.Context, c challenge, scopes []string, cred credential) (token, error) {
	realm, err := url.Parse(c.realm)
	if err == nil {
		err = h.checkRealm(realm)
	}
	if err != nil {
		return token{}, &permanent{fmt.Errorf("registry %s names a token server that cannot be used: %w", h.name, err)}
	}
	req, err := tokenRequest(ctx, realm, c.service, scopes, cred)
	if err != nil {
		return token{}, &permanent{err}
	}
	req.Header.Set("User-Agent", h.c.o.UserAgent)
	s := scheme{realm.Scheme, true}
	if realm.Host == h.addr {
		s.check = h.current().check
	}
	client := http.Client{Transport: h.transport(s), CheckRedirect: h.tokenRedirect(realm)}
	t, err := doToken(&client, req)
	if err != nil {
		return token{}, &tokenError{realm.Host, err}
	}
	return t, nil
}

func doToken(client *http.Client, req *http.Request) (token, error) {
	resp, err := client.Do(req)
	if err != nil {
		return token{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err != nil {
		return token{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return token{}, newStatusError(resp, body)
	}
	return parseToken(body)
}

func tokenRequest(ctx context.Context, realm *url.URL, service string, scopes []string, cred credential) (*http.Request, error) {
	if cred.IdentityToken != "" { // OAuth2: the identity is a refresh token
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {cred.IdentityToken},
			"service": {service}, "client_id": {clientID}, "scope": {strings.Join(scopes, " ")}}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	u := *realm
	q := u.Query()
	if service != "" {
		q.Set("service", service)
	}
	for _, s := range scopes {
		q.Add("scope", s)
	}
	q.Set("client_id", clientID)
	if cred.Username != "" {
		q.Set("account", cred.Username)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err == nil && cred.Username != "" {
		req.SetBasicAuth(cred.Username, cred.Password)
	}
	return req, err
}

func parseToken(body []byte) (token, error) {
	var t struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return token{}, &permanent{errors.New("the token server's answer is not JSON")}
	}
	if t.Token == "" {
		t.Token = t.AccessToken
	}
	if t.Token == "" || strings.ContainsAny(t.Token, "\r\n") {
		return token{}, &permanent{errors.New("the token server's answer has no token")}
	}
	life := tokenLife
	if t.ExpiresIn > 0 {
		life = time.Duration(t.ExpiresIn) * time.Second
	}
	return token{t.Token, time.Now().Add(life * 9 / 10)}, nil
}

// tokenRedirect keeps redirects to what checkRealm allows; credentials stay
// with the host that the registry named.
func (h *host) tokenRedirect(realm *url.URL) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("more than 10 redirects")
		}
		if err := h.checkRealm(req.URL); err != nil {
			return &permanent{fmt.Errorf("token server %s redirects: %w", realm.Host, err)}
		}
		if req.URL.Host != realm.Host || req.URL.Scheme != realm.Scheme {
			req.Header.Del("Authorization")
			if req.Method != http.MethodGet {
				return &permanent{fmt.Errorf("token server %s redirects a refresh token to %s", realm.Host, req.URL.Host)}
			}
		}
		return nil
	}
}

// checkRealm guards against a registry that names something else than a token
// server: the realm is the registry's word, and both a request and
// credentials follow it. Plain HTTP is for registries that speak it
// themselves; addresses on a private network are for registries that are on
// one; link-local addresses, where clouds keep their secrets, for nobody.
func (h *host) checkRealm(u *url.URL) error {
	s := h.current()
	if u.Scheme != "https" && (u.Scheme != "http" || s.name != "http") {
		return fmt.Errorf("%s://%s: want https", u.Scheme, u.Host)
	}
	if u.Host == "" || u.User != nil {
		return errors.New("no plain host in it")
	}
	if u.Host == h.addr {
		return nil
	}
	to, own := reach(u.Hostname()), reach(hostname(h.addr))
	if to == linkLocal || to > own {
		return fmt.Errorf("%s: a private address, which %s is not", u.Host, h.addr)
	}
	return nil
}

// How near an address is: one host may name another that is at most as near.
const (
	public = iota
	private
	loopback
	linkLocal
)

func reach(host string) int {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		if isLoopback(host) {
			return loopback
		}
		if odd := net.ParseIP(host); odd != nil || looksNumeric(host) {
			return linkLocal // an address in disguise: 0x7f.1, 2130706433
		}
		return public
	}
	ip = ip.Unmap().WithZone("")
	switch {
	case ip.IsLoopback():
		return loopback
	case ip.IsLinkLocalUnicast(), ip.IsMulticast(), ip.IsUnspecified(), ip == netip.MustParseAddr("fd00:ec2::254"):
		return linkLocal
	case ip.IsPrivate():
		return private
	}
	return public
}

func looksNumeric(host string) bool {
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := labels[len(labels)-1]
	return last != "" && (strings.Trim(last, "0123456789") == "" || strings.HasPrefix(strings.ToLower(last), "0x"))
}

func pullScope(repo string) []string { return []string{"repository:" + repo + ":pull"} }

func pushScope(repo string, from ...string) []string {
	scopes := []string{"repository:" + repo + ":pull,push"}
	for _, f := range from {
		if f != repo && !slices.Contains(scopes, f) {
			scopes = append(scopes, pullScope(f)...)
		}
	}
	return scopes
}
