package transport

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// An authorizer authorizes requests to one host: not at all until the host
// sends a challenge, then by basic credentials or by tokens of its token server.
type authorizer struct {
	registry    name.Registry
	conn        *conn
	credentials Credentials
	tokens      tokenClient

	mu        sync.Mutex
	challenge *challenge                // nil until the host sends one
	found     map[string]Credential     // by repository
	ready     map[string]*authorization // with tokens, by scopes
}

// An authorization is a transport that adds credentials or a token to requests.
type authorization struct {
	*transport.Wrapper
	challenged bool // the challenge was known when this was made
	cred       Credential
	key        string // in authorizer.ready, if it has a token
	expires    time.Time
}

// authorize returns an authorization for scopes of repo by the challenge known
// so far; fresh reports whether its token is new. If err is not nil, only the
// credential of the authorization is valid.
func (a *authorizer) authorize(ctx context.Context, repo string, scopes []string) (auth *authorization, fresh bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.challenge == nil {
		auth, err = a.wrap(Credential{}, challenge{basic: true}, nil)
		return auth, false, err
	}
	cred, err := a.credential(ctx, repo)
	if err != nil {
		return &authorization{}, false, Permanent(err)
	}
	if a.challenge.basic || cred.RegistryToken != "" {
		auth, err = a.wrap(cred, challenge{basic: true}, nil)
		auth.challenged = true
		return auth, false, err
	}
	key := strings.Join(scopes, " ")
	if auth := a.ready[key]; auth != nil && time.Now().Before(auth.expires) {
		return auth, false, nil
	}
	token, life, err := a.tokens.exchange(ctx, *a.challenge, scopes, cred)
	if err == nil {
		auth, err = a.wrap(cred, *a.challenge, token)
	}
	if err != nil {
		return &authorization{challenged: true, cred: cred}, false, err
	}
	auth.challenged, auth.key, auth.expires = true, key, time.Now().Add(life*9/10)
	a.ready[key] = auth
	return auth, true, nil
}

// wrap puts go-containerregistry's transport around the connection.
func (a *authorizer) wrap(cred Credential, c challenge, token *transport.Token) (*authorization, error) {
	rt, err := transport.FromToken(a.registry, cred.authenticator(), a.conn, a.conn.translate(c), token)
	if err != nil {
		return &authorization{cred: cred}, Permanent(err)
	}
	return &authorization{Wrapper: rt.(*transport.Wrapper), cred: cred}, nil
}

func (a *authorizer) credential(ctx context.Context, repo string) (Credential, error) {
	cred, ok := a.found[repo]
	if ok {
		return cred, nil
	}
	cred, err := a.credentials.Lookup(ctx, a.conn.name, repo)
	if err != nil {
		return Credential{}, err
	}
	if a.found == nil {
		a.found = map[string]Credential{}
	}
	a.found[repo] = cred
	return cred, nil
}

// refused handles the refusal of a request that was sent with auth. It reports
// whether another attempt has a credential or a token that this one had not.
func (a *authorizer) refused(ctx context.Context, repo string, auth *authorization, fresh bool, status *statusError) bool {
	if status.code == http.StatusUnauthorized && a.answer(status.challenges, auth, fresh) {
		return true
	}
	return a.renew(ctx, repo, auth)
}

// answer records the challenge of a 401 and reports whether the next attempt
// meets it in another way than auth did.
func (a *authorizer) answer(headers []string, auth *authorization, fresh bool) bool {
	c, ok := parseChallenges(headers)
	if !ok {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ready == nil {
		a.ready = map[string]*authorization{}
	}
	changed := a.challenge == nil || *a.challenge != c
	a.challenge = &c
	if auth.key != "" && !fresh { // the token expired early
		if a.ready[auth.key] == auth {
			delete(a.ready, auth.key)
		}
		return true
	}
	return changed || !auth.challenged
}

// renew looks up the credential again after auth was refused and reports
// whether there is another one: some credentials live shorter than a build, and
// a new one may have been stored since.
func (a *authorizer) renew(ctx context.Context, repo string, auth *authorization) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !auth.challenged {
		return false
	}
	if a.found[repo] == auth.cred {
		cred, err := a.credentials.Lookup(ctx, a.conn.name, repo)
		if err != nil || cred == auth.cred {
			return false // the refusal is a better error than err
		}
		a.found[repo] = cred
	}
	for key, ready := range a.ready {
		if ready.cred == auth.cred {
			delete(a.ready, key)
		}
	}
	return true
}

// challenged reports whether the host has sent a challenge.
func (a *authorizer) challenged() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.challenge != nil
}
