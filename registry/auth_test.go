package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/server/faultinject"
	"github.com/cairn-build/cairn/registry/transport"
)

// The error for an unsupported challenge names the challenge, not missing
// credentials.
func TestUnknownChallenge(t *testing.T) {
	t.Parallel()
	for challenge, want := range map[string]string{
		"":                    "none were found in",
		"Basic realm=x":       "none were found in",
		"Bearer":              `it asks for "Bearer", which is not supported; Basic, and Bearer with a realm, are`,
		"Negotiate, NTLM a=b": `it asks for "Negotiate, NTLM a=b", which is not supported`,
	} {
		s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if challenge != "" {
				w.Header().Set("WWW-Authenticate", challenge)
			}
			w.WriteHeader(http.StatusUnauthorized)
		}))
		c, _ := newClient(t, Options{})
		if _, err := c.Resolve(context.Background(), s.Host+"/app:1", layer.Platform{OS: "linux", Architecture: "amd64"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", challenge, err, want)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s := registrytest.NewTokenServer(t)
	img := imagetest.New(t, "amd64", false, "a")
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "bob", "secret")
	c, _ := newClient(t, o)
	mustPush(t, c, s.Host+"/team/app:1", img)
	wantPulled(t, c, s.Host+"/team/app:1", img)
	if len(s.Asked) != 2 {
		t.Errorf("the token server was asked %d times, want once to push and once to pull", len(s.Asked))
	}
	q := s.Asked[0].Form
	if q.Get("service") != "the registry" || q.Get("scope") != "repository:team/app:pull,push" || q.Get("x") != "1" || q.Get("account") != "bob" {
		t.Errorf("asked for %v", q)
	}
	anonymous, _ := newClient(t, Options{})
	wantPulled(t, anonymous, s.Host+"/team/app:1", img)
	err := push(anonymous, s.Host+"/team/app:2", img)
	wantError(t, err, "push HOST/team/app:2: blob "+string(img.Layers[0].Digest)+": not authorized by registry HOST (401 Unauthorized; UNAUTHORIZED: authentication required): "+
		"there is no such repository, or it needs credentials and none were found in CONFIG; log in with: cairn login HOST", s.Host, anonymous)
	if !errors.Is(err, ErrUnauthorized) {
		t.Error("it is not ErrUnauthorized")
	}
}

func TestTokenExpires(t *testing.T) {
	t.Parallel()
	s := registrytest.NewTokenServer(t)
	img := imagetest.New(t, "amd64", false, "a")
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "bob", "secret")
	c, _ := newClient(t, o)
	mustPush(t, c, s.Host+"/app:1", img)
	wantPulled(t, c, s.Host+"/app:1", img)
	s.Refuse = 1 // the registry drops the token early
	wantPulled(t, c, s.Host+"/app:1", img)
	s.Refuse = 1
	mustPush(t, c, s.Host+"/app:2", img)
	wantPulled(t, c, s.Host+"/app:2", img)
}

func TestIdentityToken(t *testing.T) {
	t.Parallel()
	s := registrytest.NewTokenServer(t)
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	config := fmt.Sprintf(`{"auths":{%q:{"identitytoken":"refresh"}}}`, s.Host)
	if err := os.WriteFile(filepath.Join(o.Credentials.DockerDir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := newClient(t, o)
	img := imagetest.New(t, "amd64", false, "a")
	mustPush(t, c, s.Host+"/app:1", img)
	if r := s.Asked[0]; r.Method != http.MethodPost || r.Form.Get("grant_type") != "refresh_token" {
		t.Errorf("asked by %s with %v", r.Method, r.Form)
	}
}

func TestTokenServerTrouble(t *testing.T) {
	t.Parallel()
	s := registrytest.NewTokenServer(t)
	s.Fail = []int{503, 429}
	img := imagetest.New(t, "amd64", false, "a")
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "bob", "secret")
	c, waits := newClient(t, o)
	mustPush(t, c, s.Host+"/app:1", img)
	if len(*waits) != 2 {
		t.Errorf("waits %v, want 2", *waits)
	}
	s.Tokens.Close()
	c, _ = newClient(t, o)
	_, err := c.Resolve(context.Background(), s.Host+"/app:1", layer.Platform{})
	wantError(t, err, "pull HOST/app:1: token server "+s.Tokens.Host+" of registry HOST cannot be reached: connection refused; check its port and that it is running", s.Host, c)
}

func TestWrongCredentials(t *testing.T) {
	t.Parallel()
	basic := imagetest.Serve(t, registrytest.Handler(t, server.Options{Auth: func(user, password string, _ bool) bool { return user == "bob" && password == "secret" }}))
	tokens := registrytest.NewTokenServer(t)
	for host, told := range map[string]string{
		basic.Host:  "401 Unauthorized; UNAUTHORIZED: authentication required",
		tokens.Host: "401 Unauthorized; incorrect username or password",
	} {
		o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
		registrytest.WriteConfig(t, o.Credentials.DockerDir, host, "bob", "wrong-secret")
		c, _ := newClient(t, o)
		_, err := c.Resolve(context.Background(), host+"/app:1", layer.Platform{})
		wantError(t, err, "pull HOST/app:1: not authorized by registry HOST ("+told+"): it refuses the credentials of \"bob\" from CONFIG; log in again with: cairn login HOST", host, c)
		if !errors.Is(err, ErrUnauthorized) || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "wrong-secret") {
			t.Errorf("error %v", err)
		}
		if err := auth.Login(context.Background(), o.Transport, o.Credentials, host, "bob", "wrong"); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("login: %v", err)
		}
		if err := auth.Login(context.Background(), o.Transport, o.Credentials, host, "bob", "secret"); err != nil {
			t.Errorf("login: %v", err)
		}
		c, _ = newClient(t, o)
		mustPush(t, c, host+"/app:1", imagetest.New(t, "amd64", false, "a"))
	}
}

// Concurrent requests that are sent before the first challenge must all be
// authorized.
func TestChallengedTogether(t *testing.T) {
	t.Parallel()
	s := registrytest.NewTokenServer(t)
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "bob", "secret")
	setup, _ := newClient(t, o)
	mustPush(t, setup, s.Host+"/app:1", imagetest.New(t, "amd64", false, "a"))
	c, _ := newClient(t, o)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if _, err := c.ResolveDigest(context.Background(), s.Host+"/app:1"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// A redirect to another server is followed without credentials.
func TestRedirectLosesCredentials(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "a")
	seen := make(chan string, 10)
	storage := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		_, _ = w.Write(img.Blobs[img.Layers[0].Digest])
	}))
	s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, storage.URL+"/x", http.StatusTemporaryRedirect)
	}))
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "bob", "secret")
	c, _ := newClient(t, o)
	mustRead(t, c, s.Host+"/app:1", img.Layers[0])
	if got := <-seen; got != "" {
		t.Errorf("the redirect's host was sent %q", got)
	}
	challenging := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+storage.URL+`"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	s.Config.Handler = http.RedirectHandler(challenging.URL, http.StatusTemporaryRedirect)
	c, _ = newClient(t, o)
	if _, err := c.OpenBlob(context.Background(), s.Host+"/app:1", img.Layers[0]); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("error %v", err)
	}
	if got := <-seen; got != "" || len(seen) > 0 {
		t.Errorf("the redirect's host was sent %q and then %d more", got, len(seen))
	}
}

// If the registry drops a token during a push, the client requests another one
// and sends the refused blob again.
func TestTokenExpiresInUpload(t *testing.T) {
	t.Parallel()
	s := registrytest.NewTokenServer(t)
	s.Next = faultinject.Handler(s.Next, faultinject.Fault{Match: func(r *http.Request) bool {
		if !isUpload(r) {
			return false
		}
		s.Forget()
		return false
	}})
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	registrytest.WriteConfig(t, o.Credentials.DockerDir, s.Host, "bob", "secret")
	c, waits := newClient(t, o)
	img := imagetest.New(t, "amd64", false, incompressible(1<<20), "b")
	mustPush(t, c, s.Host+"/app:1", img)
	wantPulled(t, c, s.Host+"/app:1", img)
	if len(*waits) != 0 {
		t.Errorf("waits %v", *waits)
	}
}

// A registry token of the config is sent unchanged, and no token is requested.
func TestRegistryToken(t *testing.T) {
	t.Parallel()
	s := registrytest.NewTokenServer(t)
	s.Issued["ready-made"] = []string{"repository:app:pull,push"}
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	config := fmt.Sprintf(`{"auths":{%q:{"registrytoken":"ready-made"}}}`, s.Host)
	if err := os.WriteFile(filepath.Join(o.Credentials.DockerDir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := newClient(t, o)
	img := imagetest.New(t, "amd64", false, "a")
	mustPush(t, c, s.Host+"/app:1", img)
	if len(s.Asked) != 0 {
		t.Errorf("the token server was asked %d times", len(s.Asked))
	}
}

// A redirect from HTTPS to plain HTTP is refused, with or without credentials.
func TestRedirectToPlainHTTP(t *testing.T) {
	t.Parallel()
	plain := imagetest.Serve(t, http.NotFoundHandler())
	s := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusTemporaryRedirect))
	t.Cleanup(s.Close)
	host := s.Listener.Addr().String()
	c, _ := newClient(t, Options{Transport: transport.Options{Insecure: []string{host}}})
	_, resolve := c.Resolve(context.Background(), host+"/app:1", layer.Platform{})
	_, open := c.OpenBlob(context.Background(), host+"/app:1", layer.Descriptor{Digest: someDigest})
	_, digest := c.ResolveDigest(context.Background(), host+"/app:1")
	for _, err := range []error{resolve, open, digest} {
		if err == nil || !strings.HasSuffix(err.Error(), "registry "+host+" redirects to plain HTTP on "+plain.Host) {
			t.Errorf("error %v", err)
		}
	}
	if r := plain.Requests(); len(r) != 0 {
		t.Errorf("plain HTTP requests: %q", r)
	}
}

// A manifest may be redirected within a registry over HTTPS.
func TestManifestRedirect(t *testing.T) {
	t.Parallel()
	h := registrytest.Handler(t, server.Options{})
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/1") && r.URL.RawQuery == "" {
			http.Redirect(w, r, r.URL.Path+"?again", http.StatusTemporaryRedirect)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	host := s.Listener.Addr().String()
	c, _ := newClient(t, Options{Transport: transport.Options{Insecure: []string{host}}})
	img := imagetest.New(t, "amd64", false, "a")
	mustPush(t, c, host+"/app:1", img)
	wantPulled(t, c, host+"/app:1", img)
	if d, err := c.ResolveDigest(context.Background(), host+"/app:1"); err != nil || d != img.Digest {
		t.Errorf("digest %s, %v", d, err)
	}
}
