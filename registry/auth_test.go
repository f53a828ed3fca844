package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/internal/imagetest"
	"github.com/cairn-build/cairn/registry/serve"
)

func TestParseChallenges(t *testing.T) {
	for _, test := range []struct {
		headers []string
		want    challenge
		ok      bool
	}{
		{[]string{`Basic realm="x"`}, challenge{basic: true}, true},
		{[]string{`basic`}, challenge{basic: true}, true},
		{[]string{`Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"`}, challenge{realm: "https://a/t", service: "s"}, true},
		{[]string{`Bearer service=s, realm=https://a/t , error="x, y"`}, challenge{realm: "https://a/t", service: "s"}, true},
		{[]string{`Negotiate`, `Basic realm="x"`}, challenge{basic: true}, true},
		{[]string{`Basic realm="a, Bearer b", Bearer realm="https://a/t"`}, challenge{realm: "https://a/t"}, true},
		{[]string{`Negotiate, Basic realm="x"`}, challenge{basic: true}, true},
		{[]string{`Bearer realm="a\"b"`}, challenge{realm: `a"b`}, true},
		{[]string{`Bearer service="s"`}, challenge{basic: true}, false},
		{[]string{`Negotiate`}, challenge{basic: true}, false},
		{nil, challenge{basic: true}, false},
	} {
		if got, ok := parseChallenges(test.headers); got != test.want || ok != test.ok {
			t.Errorf("%q: %+v, %v, want %+v, %v", test.headers, got, ok, test.want, test.ok)
		}
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/t",service="s",scope="repository:x:pull,push", Basic`)
	f.Add(`Bearer realm="\`)
	f.Add(`,=",=`)
	f.Fuzz(func(t *testing.T, header string) {
		c, ok := parseChallenges([]string{header})
		if ok && !c.basic && c.realm == "" {
			t.Errorf("%q: a token server without a name", header)
		}
	})
}

func TestCheckRealm(t *testing.T) {
	c, _ := newClient(t, Options{Insecure: []string{"plain.example"}})
	for _, test := range []struct {
		registry, realm string
		ok              bool
	}{
		{"docker.io", "https://auth.docker.io/token", true},
		{"ghcr.io", "https://ghcr.io/token", true},
		{"ghcr.io", "http://ghcr.io/token", false},
		{"ghcr.io", "https://169.254.169.254/latest/meta-data", false},
		{"ghcr.io", "https://[fe80::1]/", false},
		{"ghcr.io", "https://[fd00:ec2::254]/", false},
		{"ghcr.io", "https://10.0.0.1/token", false},
		{"ghcr.io", "https://127.0.0.1/token", false},
		{"ghcr.io", "https://localhost/token", false},
		{"ghcr.io", "https://[::ffff:127.0.0.1]/token", false},
		{"ghcr.io", "https://2130706433/token", false},
		{"ghcr.io", "https://0x7f.1/token", false},
		{"ghcr.io", "https://0/token", false},
		{"ghcr.io", "https://user:pw@ghcr.io/token", false},
		{"ghcr.io", "file:///etc/passwd", false},
		{"ghcr.io", "/token", false},
		{"10.1.2.3", "https://10.1.2.4/token", true},
		{"10.1.2.3:5000", "https://10.1.2.3/token", true},
		{"10.1.2.3", "https://127.0.0.1/token", false},
		{"10.1.2.3", "https://169.254.169.254/", false},
		{"localhost:5000", "http://127.0.0.1:5001/token", true},
		{"localhost:5000", "http://10.0.0.1/token", true},
		{"localhost:5000", "http://169.254.169.254/", false},
		{"localhost:5000", "https://auth.example/token", true},
	} {
		u := mustURL(t, test.realm)
		if err := c.host(test.registry).checkRealm(u); (err == nil) != test.ok {
			t.Errorf("registry %s, realm %s: %v, want ok %v", test.registry, test.realm, err, test.ok)
		}
	}
}

// A tokenServer is a registry with a token server beside it.
type tokenServer struct {
	*imagetest.Server
	tokens *imagetest.Server
	next   http.Handler

	mu     sync.Mutex
	issued map[string][]string // token -> scopes
	asked  []*http.Request
	life   int
	refuse int // answers of the registry that forget the token
	fail   []int
}

func newTokenServer(t *testing.T) *tokenServer {
	s := &tokenServer{next: handler(t, serve.Options{}), issued: map[string][]string{}, life: 300}
	s.tokens = imagetest.Serve(t, http.HandlerFunc(s.issue))
	s.Server = imagetest.Serve(t, http.HandlerFunc(s.serve))
	return s
}

func (s *tokenServer) issue(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = r.ParseForm()
	s.asked = append(s.asked, r)
	if len(s.fail) > 0 {
		status := s.fail[0]
		s.fail = s.fail[1:]
		w.WriteHeader(status)
		return
	}
	user, password, ok := r.BasicAuth()
	switch {
	case ok && (user != "bob" || password != "secret"), r.Method == http.MethodPost && r.Form.Get("refresh_token") != "refresh":
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
	value := fmt.Sprintf("token-%d", len(s.asked))
	s.issued[value] = scopes
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": value, "expires_in": s.life})
}

func (s *tokenServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	value := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if s.refuse > 0 && value != "" {
		s.refuse--
		delete(s.issued, value)
	}
	scopes, ok := s.issued[value]
	s.mu.Unlock()
	want := "pull"
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		want = "push"
	}
	if !ok || r.URL.Path != "/v2/" && !slices.ContainsFunc(scopes, func(scope string) bool { return strings.Contains(scope, want) }) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.tokens.URL+`/token?x=1",service="the registry"`)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return
	}
	s.next.ServeHTTP(w, r)
}

// A registry that can't be logged in to as it wants it is not told to lack credentials.
func TestUnknownChallenge(t *testing.T) {
	for challenge, want := range map[string]string{
		"":                    "none were found in",
		"Basic realm=x":       "none were found in",
		"Bearer":              `it asks for "Bearer", which is not known; there are Basic, and Bearer with a realm`,
		"Negotiate, NTLM a=b": `it asks for "Negotiate, NTLM a=b", which is not known`,
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
	s := newTokenServer(t)
	img := imagetest.New(t, "amd64", false, "a")
	o := Options{Docker: t.TempDir()}
	writeConfig(t, o.Docker, s.Host, "bob", "secret")
	c, _ := newClient(t, o)
	mustPush(t, c, s.Host+"/team/app:1", img)
	wantPulled(t, c, s.Host+"/team/app:1", img)
	if len(s.asked) != 2 {
		t.Errorf("the token server was asked %d times, want once to push and once to pull", len(s.asked))
	}
	q := s.asked[0].Form
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
	s := newTokenServer(t)
	img := imagetest.New(t, "amd64", false, "a")
	o := Options{Docker: t.TempDir()}
	writeConfig(t, o.Docker, s.Host, "bob", "secret")
	c, _ := newClient(t, o)
	mustPush(t, c, s.Host+"/app:1", img)
	wantPulled(t, c, s.Host+"/app:1", img)
	s.refuse = 1 // the registry forgets it before its time
	wantPulled(t, c, s.Host+"/app:1", img)
	s.refuse = 1
	mustPush(t, c, s.Host+"/app:2", img)
	wantPulled(t, c, s.Host+"/app:2", img)
}

func TestIdentityToken(t *testing.T) {
	s := newTokenServer(t)
	o := Options{Docker: t.TempDir()}
	config := fmt.Sprintf(`{"auths":{%q:{"identitytoken":"refresh"}}}`, s.Host)
	if err := os.WriteFile(filepath.Join(o.Docker, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := newClient(t, o)
	img := imagetest.New(t, "amd64", false, "a")
	mustPush(t, c, s.Host+"/app:1", img)
	if r := s.asked[0]; r.Method != http.MethodPost || r.Form.Get("grant_type") != "refresh_token" {
		t.Errorf("asked by %s with %v", r.Method, r.Form)
	}
}

func TestTokenServerTrouble(t *testing.T) {
	s := newTokenServer(t)
	s.fail = []int{503, 429}
	img := imagetest.New(t, "amd64", false, "a")
	o := Options{Docker: t.TempDir()}
	writeConfig(t, o.Docker, s.Host, "bob", "secret")
	c, waits := newClient(t, o)
	mustPush(t, c, s.Host+"/app:1", img)
	if len(*waits) != 2 {
		t.Errorf("waits %v, want 2", *waits)
	}
	s.tokens.Close()
	c, _ = newClient(t, o)
	_, err := c.Resolve(context.Background(), s.Host+"/app:1", layer.Platform{})
	wantError(t, err, "pull HOST/app:1: token server "+s.tokens.Host+" of registry HOST cannot be reached: connection refused; is it running, and is the port right?", s.Host, c)
}

func TestWrongCredentials(t *testing.T) {
	basic := imagetest.Serve(t, handler(t, serve.Options{Auth: func(user, password string, _ bool) bool { return user == "bob" && password == "secret" }}))
	tokens := newTokenServer(t)
	for host, told := range map[string]string{
		basic.Host:  "401 Unauthorized; UNAUTHORIZED: authentication required",
		tokens.Host: "401 Unauthorized; incorrect username or password",
	} {
		o := Options{Docker: t.TempDir()}
		writeConfig(t, o.Docker, host, "bob", "wrong-secret")
		c, _ := newClient(t, o)
		_, err := c.Resolve(context.Background(), host+"/app:1", layer.Platform{})
		wantError(t, err, "pull HOST/app:1: not authorized by registry HOST ("+told+"): it refuses the credentials of \"bob\" from CONFIG; log in again with: cairn login HOST", host, c)
		if !errors.Is(err, ErrUnauthorized) || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "wrong-secret") {
			t.Errorf("error %v", err)
		}
		if err := Login(context.Background(), o, host, "bob", "wrong"); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("login: %v", err)
		}
		if err := Login(context.Background(), o, host, "bob", "secret"); err != nil {
			t.Errorf("login: %v", err)
		}
		c, _ = newClient(t, o)
		mustPush(t, c, host+"/app:1", imagetest.New(t, "amd64", false, "a"))
	}
}

// Requests that begin together, before anybody knows that credentials are
// wanted, must all find out.
func TestChallengedTogether(t *testing.T) {
	s := newTokenServer(t)
	o := Options{Docker: t.TempDir()}
	writeConfig(t, o.Docker, s.Host, "bob", "secret")
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

// A blob that lies on another server is fetched there without credentials.
func TestRedirectLosesCredentials(t *testing.T) {
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
	o := Options{Docker: t.TempDir()}
	writeConfig(t, o.Docker, s.Host, "bob", "secret")
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

func TestTokenLife(t *testing.T) {
	tokenOf := func(body string) (header string, expires time.Time, err error) {
		tokens := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, body) }))
		s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { header = r.Header.Get("Authorization") }))
		c, _ := newClient(t, Options{})
		way, err := c.host(s.Host).exchange(context.Background(), challenge{realm: tokens.URL}, nil, credential{})
		if err != nil {
			return "", expires, err
		}
		resp, err := (&http.Client{Transport: way}).Get(s.URL + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return header, way.expires, nil
	}
	for body, want := range map[string]time.Duration{
		`{"token":"x"}`: 54 * time.Second, `{"token":"x","expires_in":300}`: 270 * time.Second, `{"access_token":"x","expires_in":-1}`: 54 * time.Second,
	} {
		header, expires, err := tokenOf(body)
		if life := time.Until(expires); err != nil || header != "Bearer x" || life > want || life < want-10*time.Second {
			t.Errorf("%s: %v, %v, sends %q", body, life, err, header)
		}
	}
	for _, body := range []string{`{}`, `[]`, `<html>`, `{"token":"a\r\nb"}`, `{"refresh_token":"hidden"}`} {
		if _, _, err := tokenOf(body); err == nil || !errors.As(err, new(*permanent)) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: error %v, want one without what is in it", body, err)
		}
	}
}

// A token that is forgotten while a push is on its way is asked for anew, and
// the blob that was refused is sent again from its beginning.
func TestTokenExpiresInUpload(t *testing.T) {
	s := newTokenServer(t)
	s.next = serve.Faulty(s.next, serve.Faults{Match: func(r *http.Request) bool {
		if !isUpload(r) {
			return false
		}
		clear(s.issued)
		return false
	}})
	o := Options{Docker: t.TempDir()}
	writeConfig(t, o.Docker, s.Host, "bob", "secret")
	c, waits := newClient(t, o)
	img := imagetest.New(t, "amd64", false, incompressible(1<<20), "b")
	mustPush(t, c, s.Host+"/app:1", img)
	wantPulled(t, c, s.Host+"/app:1", img)
	if len(*waits) != 0 {
		t.Errorf("waits %v", *waits)
	}
}

// A token of the config is sent as it is; nobody else is asked for one.
func TestRegistryToken(t *testing.T) {
	s := newTokenServer(t)
	s.issued["ready-made"] = []string{"repository:app:pull,push"}
	o := Options{Docker: t.TempDir()}
	config := fmt.Sprintf(`{"auths":{%q:{"registrytoken":"ready-made"}}}`, s.Host)
	if err := os.WriteFile(filepath.Join(o.Docker, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := newClient(t, o)
	img := imagetest.New(t, "amd64", false, "a")
	mustPush(t, c, s.Host+"/app:1", img)
	if len(s.asked) != 0 {
		t.Errorf("the token server was asked %d times", len(s.asked))
	}
}

// A token server may redirect, but not to where a realm may not be, and
// credentials stay behind.
func TestTokenRedirect(t *testing.T) {
	seen := make(chan string, 10)
	other := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Get("Authorization")
		fmt.Fprint(w, `{"token":"x"}`)
	}))
	for to, want := range map[string]string{other.URL: "", "http://169.254.169.254/": "a private address", "file:///etc/passwd": "want https"} {
		tokens := imagetest.Serve(t, http.RedirectHandler(to, http.StatusTemporaryRedirect))
		c, _ := newClient(t, Options{})
		cred := credential{authn.AuthConfig{Username: "bob", Password: "secret"}, "here"}
		_, err := c.host("localhost:5000").exchange(context.Background(), challenge{realm: tokens.URL}, nil, cred)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("to %s: error %v, want %q", to, err, want)
		}
	}
	if got := <-seen; got != "" || len(seen) > 0 {
		t.Errorf("the redirect's host was sent %q, and then %d more", got, len(seen))
	}
}

// From HTTPS nothing leads to plain HTTP, with or without credentials.
func TestRedirectToPlainHTTP(t *testing.T) {
	plain := imagetest.Serve(t, http.NotFoundHandler())
	s := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusTemporaryRedirect))
	t.Cleanup(s.Close)
	host := s.Listener.Addr().String()
	c, _ := newClient(t, Options{Insecure: []string{host}})
	_, resolve := c.Resolve(context.Background(), host+"/app:1", layer.Platform{})
	_, open := c.OpenBlob(context.Background(), host+"/app:1", layer.Blob{Digest: someDigest})
	_, digest := c.ResolveDigest(context.Background(), host+"/app:1")
	for _, err := range []error{resolve, open, digest} {
		if err == nil || !strings.HasSuffix(err.Error(), "registry "+host+" redirects to plain HTTP on "+plain.Host) {
			t.Errorf("error %v", err)
		}
	}
	if r := plain.Requests(); len(r) != 0 {
		t.Errorf("by plain HTTP went %q", r)
	}
}

// A manifest may be redirected within a registry, by HTTPS too.
func TestManifestRedirect(t *testing.T) {
	h := handler(t, serve.Options{})
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/1") && r.URL.RawQuery == "" {
			http.Redirect(w, r, r.URL.Path+"?again", http.StatusTemporaryRedirect)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	host := s.Listener.Addr().String()
	c, _ := newClient(t, Options{Insecure: []string{host}})
	img := imagetest.New(t, "amd64", false, "a")
	mustPush(t, c, host+"/app:1", img)
	wantPulled(t, c, host+"/app:1", img)
	if d, err := c.ResolveDigest(context.Background(), host+"/app:1"); err != nil || d != img.Digest {
		t.Errorf("digest %s, %v", d, err)
	}
}
