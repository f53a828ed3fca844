package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// authorizer knows how one registry wants to be authorized: not at all until
// it says so, then by basic credentials or by tokens of a token server. The
// words are go-containerregistry's; what is said when is decided here.
type authorizer struct {
	mu        sync.Mutex
	challenge *challenge
	fixed     *credential            // of a login
	creds     map[string]credential  // by repository
	ready     map[string]*authorized // by scopes
}

type challenge struct {
	basic   bool
	realm   string // of the token server
	service string
}

// authorized is a way to send requests with what the registry wants.
type authorized struct {
	*transport.Wrapper
	asked   bool // it was known what the registry wants
	cred    credential
	key     string // of the token, if there is one
	expires time.Time
}

// way is how to send requests for scopes of repo, by what is known so far. It
// is fresh when it has a new token.
func (a *authorizer) way(ctx context.Context, h *host, repo string, scopes []string) (w *authorized, fresh bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.challenge == nil {
		w, err = h.authorized(credential{}, challenge{basic: true}, nil)
		return w, false, err
	}
	cred, err := a.credential(ctx, h, repo)
	if err != nil {
		return &authorized{}, false, &permanent{err}
	}
	if a.challenge.basic || cred.RegistryToken != "" {
		w, err = h.authorized(cred, challenge{basic: true}, nil)
		w.asked = true
		return w, false, err
	}
	key := strings.Join(scopes, " ")
	if w := a.ready[key]; w != nil && time.Now().Before(w.expires) {
		return w, false, nil
	}
	if w, err = h.exchange(ctx, *a.challenge, scopes, cred); err != nil {
		return &authorized{asked: true, cred: cred}, false, err
	}
	w.asked, w.key = true, key
	a.ready[key] = w
	return w, true, nil
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

// renew looks for credentials again after those that were sent were refused:
// some live shorter than a build, and whoever keeps them may have new ones by
// now. It says whether there are others than those sent.
func (a *authorizer) renew(ctx context.Context, h *host, repo string, sent *authorized) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fixed != nil || !sent.asked {
		return false
	}
	if a.creds[repo] == sent.cred {
		cred, err := h.c.o.lookup(ctx, h.name, repo)
		if err != nil || cred == sent.cred {
			return false // the refusal says more than err
		}
		a.creds[repo] = cred
	}
	for key, w := range a.ready {
		if w.cred == sent.cred {
			delete(a.ready, key)
		}
	}
	return true
}

// challenged reads what a 401 asks for. It says whether another attempt has
// something to offer that the last one, with sent, had not.
func (a *authorizer) challenged(headers []string, sent *authorized, fresh bool) bool {
	c, ok := parseChallenges(headers)
	if !ok {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ready == nil {
		a.ready = map[string]*authorized{}
	}
	changed := a.challenge == nil || *a.challenge != c
	a.challenge = &c
	if sent.key != "" && !fresh { // the token expired early
		if a.ready[sent.key] == sent {
			delete(a.ready, sent.key)
		}
		return true
	}
	return changed || !sent.asked
}

// authorized puts go-containerregistry's transport for c around the wire.
func (h *host) authorized(cred credential, c challenge, t *transport.Token) (*authorized, error) {
	var auth authn.Authenticator = authn.Anonymous
	if !cred.empty() {
		auth = cred
	}
	rt, err := transport.FromToken(h.registry, auth, wire{h}, h.speak(c), t)
	if err != nil {
		return &authorized{cred: cred}, &permanent{err}
	}
	return &authorized{Wrapper: rt.(*transport.Wrapper), cred: cred}, nil
}

// tokenHost stands for the token server before go-containerregistry, which
// would refuse one on a private network even beside a registry on the same.
// The real one has passed checkRealm.
const tokenHost = "token-server.invalid"

// speak is c as go-containerregistry says it.
func (h *host) speak(c challenge) *transport.Challenge {
	insecure := h.current().name == "http"
	if c.basic {
		return &transport.Challenge{Scheme: "basic", Insecure: insecure}
	}
	params := map[string]string{"realm": "https://" + tokenHost, "service": c.service}
	return &transport.Challenge{Scheme: "bearer", Insecure: insecure, Parameters: params}
}

// parseChallenges picks the challenge that can be met out of WWW-Authenticate
// headers, tokens before basic credentials. go-containerregistry reads each,
// but it looks at one challenge a header, and takes the first it knows.
func parseChallenges(headers []string) (challenge, bool) {
	var basic bool
	for _, header := range headers {
		for _, one := range splitChallenges(header) {
			c, err := transport.Ping(context.Background(), name.Registry{}, answer(one))
			switch {
			case err != nil:
			case strings.EqualFold(c.Scheme, "bearer") && c.Parameters["realm"] != "":
				return challenge{realm: c.Parameters["realm"], service: c.Parameters["service"]}, true
			case strings.EqualFold(c.Scheme, "basic"):
				basic = true
			}
		}
	}
	return challenge{basic: true}, basic
}

// An answer is the round trip of a ping to a registry that was asked already.
type answer string

func (a answer) RoundTrip(req *http.Request) (*http.Response, error) {
	header := http.Header{"Www-Authenticate": {quoted(string(a))}}
	return &http.Response{StatusCode: http.StatusUnauthorized, Header: header, Body: http.NoBody, Request: req}, nil
}

var bareParam = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|=[^\s",]+`)

// quoted puts quotes around the values that need them and have none.
func quoted(header string) string {
	return bareParam.ReplaceAllStringFunc(header, func(s string) string {
		if s[0] == '=' {
			return `="` + s[1:] + `"`
		}
		return s
	})
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

// A tokenError is an error of a registry's token server.
type tokenError struct {
	server string
	err    error
}

func (e *tokenError) Error() string { return "token server " + e.server + ": " + e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

const tokenLife = 60 * time.Second // when the server does not say

// exchange asks the token server of a challenge for a token. Errors that are
// worth a retry come back as they are.
func (h *host) exchange(ctx context.Context, c challenge, scopes []string, cred credential) (*authorized, error) {
	realm, err := url.Parse(c.realm)
	if err == nil {
		err = h.checkRealm(realm)
	}
	if err != nil {
		return nil, &permanent{fmt.Errorf("registry %s names a token server that cannot be used: %w", h.name, err)}
	}
	var auth authn.Authenticator = authn.Anonymous
	if !cred.empty() {
		auth = cred
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	t, err := transport.Exchange(ctx, h.registry, auth, tokenWire{h, realm, cred.Username}, scopes, h.speak(c))
	if told := (*tokenError)(nil); errors.As(err, &told) {
		return nil, told
	}
	if err != nil {
		return nil, &permanent{fmt.Errorf("token server %s: its answer has no token", realm.Host)} // but maybe secrets
	}
	t.Token = cmp.Or(t.Token, t.AccessToken)
	if strings.ContainsAny(t.Token, "\r\n") {
		return nil, &permanent{fmt.Errorf("token server %s: its token is none", realm.Host)}
	}
	life := tokenLife
	if t.ExpiresIn > 0 {
		life = time.Duration(t.ExpiresIn) * time.Second
	}
	w, err := h.authorized(cred, c, t)
	if err == nil {
		w.expires = time.Now().Add(life * 9 / 10)
	}
	return w, err
}

// A tokenWire takes requests for tokenHost to the token server, and what it
// redirects to.
type tokenWire struct {
	h     *host
	realm *url.URL
	user  string
}

func (t tokenWire) RoundTrip(in *http.Request) (*http.Response, error) {
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
	req.Header.Set("User-Agent", t.h.c.o.UserAgent)
	s := scheme{u.Scheme, true}
	if u.Host == t.h.addr {
		s.check = t.h.current().check
	}
	carrier, err := t.h.realmTransport(s, u.Host)
	if err != nil {
		return nil, &permanent{err}
	}
	client := http.Client{Transport: carrier, CheckRedirect: t.h.tokenRedirect(t.realm)}
	resp, err := client.Do(req)
	if err == nil && resp.StatusCode >= 300 && (resp.StatusCode != http.StatusNotFound || in.Method == http.MethodGet) {
		err = newStatusError(resp)
	}
	if err != nil {
		return nil, &tokenError{u.Host, err}
	}
	return resp, nil
}

// realmTransport is what carries requests to a token server: what carries
// them to the registry when it is the same host, else what carries them to
// where the registry leads, unless there are authorities for the other host.
func (h *host) realmTransport(s scheme, realm string) (*http.Transport, error) {
	if realm == h.addr {
		return h.transport(s), nil
	}
	at := h.c.hostFor(endpoint{domain: realm})
	if at.trust != nil && s.check {
		return at.trust, nil
	}
	return h.foreign(s), at.broken
}

// tokenRedirect keeps redirects to what checkRealm allows; credentials stay
// with the host that the registry named.
func (h *host) tokenRedirect(realm *url.URL) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
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
// one, by their name or by the address that answered; link-local addresses, where clouds keep their secrets, for nobody.
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
	to, own := reach(u.Hostname()), max(reach(hostname(h.addr)), int(h.near.Load()))
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
