package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/retry"
)

// newPool returns a pool that does not wait before retries.
func newPool(t testing.TB, o Options, credentials Credentials) *Pool {
	t.Helper()
	if o.Sleep == nil {
		o.Sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	}
	p, err := New(o, credentials)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// testCredentials is the user bob with the password secret.
type testCredentials struct{}

func (testCredentials) Lookup(context.Context, string, string) (Credential, error) {
	return Credential{AuthConfig: authn.AuthConfig{Username: "bob", Password: "secret"}, Source: "the test"}, nil
}
func (testCredentials) Searched(Credential) string { return "the test" }

func TestNewRefusesInvalidHosts(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"http://x", "", "a/b", "user@host"} {
		if _, err := New(Options{Insecure: []string{host}}, nil); err == nil {
			t.Errorf("insecure host %q: no error", host)
		}
	}
	for _, host := range []string{"registry", "10.0.0.1:5000", "[::1]:5000"} {
		if _, err := New(Options{Insecure: []string{host}}, nil); err != nil {
			t.Errorf("insecure host %q: %v", host, err)
		}
	}
}

func TestSchemeSwitch(t *testing.T) {
	t.Parallel()
	http, https := scheme{"http", false}, scheme{"https", true}
	s := schemes{all: []scheme{http, https}}
	for i, step := range []struct {
		from scheme
		ok   bool
		then scheme
	}{
		{http, true, https},
		{http, true, https}, // a concurrent request, which has not seen the switch
		{https, false, http},
	} {
		if ok := s.switchFrom(step.from); ok != step.ok || s.current() != step.then {
			t.Errorf("step %d: %v, now %v, want %v, %v", i, ok, s.current(), step.ok, step.then)
		}
	}
}

func TestSchemesFor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		config   HostConfig
		insecure bool
		want     []scheme
	}{
		{HostConfig{Domain: "a.example"}, false, []scheme{{"https", true}}},
		{HostConfig{Domain: "a.example"}, true, []scheme{{"https", false}, {"http", false}}},
		{HostConfig{Domain: "a.example", PlainHTTP: true}, false, []scheme{{"http", false}}},
		{HostConfig{Domain: "localhost:5000"}, false, []scheme{{"http", false}, {"https", true}}},
		{HostConfig{Domain: "[::1]:5000"}, true, []scheme{{"http", false}, {"https", false}}},
	} {
		if got := schemesFor(test.config, test.insecure); !slices.Equal(got, test.want) {
			t.Errorf("%+v, insecure %v: %v, want %v", test.config, test.insecure, got, test.want)
		}
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	var waits []time.Duration
	sleep := func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	h := newPool(t, Options{Sleep: sleep}, nil).Host(HostConfig{Domain: "a.example"})
	r := h.Retries()
	busy := &statusError{code: http.StatusTooManyRequests, retryAfter: 7 * time.Second}
	for range retry.Tries - 1 {
		if err := r.Wait(t.Context(), busy); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Wait(t.Context(), busy); err != busy {
		t.Errorf("after %d attempts: %v, want the failure", retry.Tries, err)
	}
	r.Reset()
	if err := r.Wait(t.Context(), busy); err != nil {
		t.Errorf("after a reset: %v", err)
	}
	for _, wait := range waits {
		if wait != 7*time.Second {
			t.Errorf("waits %v, want those that the registry asked for", waits)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx context.Context
		err error
	}{
		{t.Context(), Permanent(errors.New("permanent"))},
		{t.Context(), &statusError{code: http.StatusNotFound}},
		{t.Context(), &statusError{code: http.StatusTooManyRequests, retryAfter: time.Hour}},
		{ctx, busy},
	} {
		r := h.Retries()
		if err := r.Wait(test.ctx, test.err); err != test.err {
			t.Errorf("%v: %v, want no retry", test.err, err)
		}
	}
}

func TestCertFiles(t *testing.T) {
	t.Parallel()
	dir, second := t.TempDir(), t.TempDir()
	for _, name := range []string{"a.example:5000/ca.crt", "a.example:5000/client.cert", "a.example:5000/client.key", "half.example/client.key"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(second, "a.example:5000"), 0o700); err != nil {
		t.Fatal(err)
	}
	o := Options{CertDirs: []string{filepath.Join(dir, "missing"), dir, second}, CAs: map[string][]string{"": {"all.crt"}, "a.example": {"host.crt"}}}
	got, err := o.certFiles("a.example:5000", "a.example:5000")
	at := filepath.Join(dir, "a.example:5000")
	if err != nil || !slices.Equal(got.authorities, []string{"host.crt", "all.crt", at + "/ca.crt"}) ||
		!slices.Equal(got.client, []ClientCert{{at + "/client.cert", at + "/client.key"}}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := o.certFiles("half.example", "half.example"); err == nil || !strings.Contains(err.Error(), "has no client.cert beside it") {
		t.Errorf("half a pair: %v", err)
	}
	for _, name := range []string{"..", ".", "../" + filepath.Base(dir) + "/a.example:5000", ""} {
		if got, err := o.certFiles(name, name); err != nil || len(got.client) != 0 {
			t.Errorf("host %q: %+v, %v, want no file of a directory", name, got, err)
		}
	}
}

// The text of a registry reaches the terminal without control characters.
func TestStatusErrorIsPrintable(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, `{"errors":[{"code":"X","message":"\u001b[2Jred\u009b"},{"code":"Y","message":"`+strings.Repeat("y", 500)+`"}]}`)
	}))
	h := newPool(t, Options{}, nil).Host(HostConfig{Domain: s.Host})
	_, err := h.Do(t.Context(), Request{Method: http.MethodGet})
	if err == nil || Status(err) != http.StatusTeapot {
		t.Fatalf("error %v, want status %d", err, http.StatusTeapot)
	}
	if text := err.Error(); strings.ContainsAny(text, "\x1b\u009b") || len(text) > 500 || !strings.Contains(text, "X:  [2Jred") {
		t.Errorf("error %q", text)
	}
}

// An answer that is not a registry's is attributed to a proxy.
func TestProxyHint(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{}, nil)
	h := p.Host(HostConfig{Domain: "registry.example:5000"})
	for _, test := range []struct {
		name   string
		status *statusError
		want   string
	}{
		{"a registry's", &statusError{code: 400, server: "Server: nginx", errors: []transport.Diagnostic{{Code: "DIGEST_INVALID", Message: "no"}}},
			"registry registry.example:5000 answered 400 Bad Request; DIGEST_INVALID: no"},
		{"in front", &statusError{code: 400, server: "Server: nginx"},
			"registry registry.example:5000 answered 400 Bad Request without a registry's error message; it is likely the answer of a proxy in front of it (Server: nginx): look into its log, and at its limits on requests"},
		{"configured", &statusError{code: 411, server: "Via: 1.1 squid", proxy: "proxy.lan:3128"},
			"registry registry.example:5000 answered 411 Length Required without a registry's error message; it is likely the answer of the proxy proxy.lan:3128: add registry.example to NO_PROXY to go around it, or look into its log"},
		{"unknown", &statusError{code: 400},
			"registry registry.example:5000 answered 400 Bad Request without a registry's error message; it is likely the answer of a proxy in front of it: look into its log, and at its limits on requests"},
		{"another status", &statusError{code: 409, server: "Server: nginx"}, "registry registry.example:5000 answered 409 Conflict"},
	} {
		if got := h.Explain(test.status).Error(); got != test.want {
			t.Errorf("%s: %s\nwant %s", test.name, got, test.want)
		}
	}
}

// The headers of an answer name the server that it is from.
func TestStatusErrorServer(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "nginx")
		w.Header().Set("Via", "1.1 squid")
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer s.Close()
	resp, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if e := newStatusError(resp); e.server != "Via: 1.1 squid" {
		t.Errorf("the server is %q", e.server)
	}
}
