// Package registrytest contains servers and files for tests of registry clients.
package registrytest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/server"
)

// Handler returns a registry in a temporary directory that is not synced to disk.
func Handler(t testing.TB, o server.Options) http.Handler {
	t.Helper()
	o.NoSync = true
	h, err := server.Handler(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Basic returns server options that admit one user.
func Basic(user, password string) server.Options {
	return server.Options{Auth: func(u, p string, _ bool) bool { return u == user && p == password }}
}

// WriteConfig writes a docker config.json with one user into dir.
func WriteConfig(t testing.TB, dir, host, user, password string) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]any{"auth": Base64(user + ":" + password)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Base64 returns s in base64, as docker's config.json has it.
func Base64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TokenServer is a registry with a token server. The user bob with password
// secret, or with the refresh token refresh, may push; all others may pull. The
// fields must not be changed while requests are under way.
type TokenServer struct {
	*imagetest.Server
	Tokens *imagetest.Server
	Next   http.Handler // serves authorized requests

	Issued map[string][]string // scopes by token
	Asked  []*http.Request     // requests for tokens
	Life   int                 // of tokens in seconds
	Refuse int                 // number of requests whose token the registry forgets
	Fail   []int               // statuses of the next answers of the token server

	mu sync.Mutex
}

// NewTokenServer starts a registry and its token server, until the test ends.
func NewTokenServer(t testing.TB) *TokenServer {
	s := &TokenServer{Next: Handler(t, server.Options{}), Issued: map[string][]string{}, Life: 300}
	s.Tokens = imagetest.Serve(t, http.HandlerFunc(s.IssueToken))
	s.Server = imagetest.Serve(t, http.HandlerFunc(s.ServeRegistry))
	return s
}

// IssueToken is the handler of the token server.
func (s *TokenServer) IssueToken(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = r.ParseForm()
	s.Asked = append(s.Asked, r)
	if len(s.Fail) > 0 {
		status := s.Fail[0]
		s.Fail = s.Fail[1:]
		w.WriteHeader(status)
		return
	}
	user, password, ok := r.BasicAuth()
	if ok && (user != "bob" || password != "secret") || r.Method == http.MethodPost && r.Form.Get("refresh_token") != "refresh" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"details":"incorrect username or password"}`)
		return
	}
	scopes := r.Form["scope"]
	if r.Method == http.MethodPost {
		scopes = strings.Fields(r.Form.Get("scope"))
	}
	if !ok && r.Method == http.MethodGet {
		for i := range scopes {
			scopes[i] = strings.Replace(scopes[i], ":pull,push", ":pull", 1)
		}
	}
	value := fmt.Sprintf("token-%d", len(s.Asked))
	s.Issued[value] = scopes
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": value, "expires_in": s.Life})
}

// Forget makes all tokens issued so far invalid.
func (s *TokenServer) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.Issued)
}

// ServeRegistry is the handler of the registry.
func (s *TokenServer) ServeRegistry(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	value := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if s.Refuse > 0 && value != "" {
		s.Refuse--
		delete(s.Issued, value)
	}
	scopes, ok := s.Issued[value]
	s.mu.Unlock()
	want := "pull"
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		want = "push"
	}
	if !ok || r.URL.Path != "/v2/" && !slices.ContainsFunc(scopes, func(scope string) bool { return strings.Contains(scope, want) }) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.Tokens.URL+`/token?x=1",service="the registry"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return
	}
	s.Next.ServeHTTP(w, r)
}
