package registry

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/registriesconf"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/transport"
)

// The target of a redirect is verified with the registry's authorities, and gets
// no client certificate.
func TestRedirectSeesNoClientCert(t *testing.T) {
	t.Parallel()
	a := registrytest.NewAuthority(t)
	img := imagetest.New(t, "amd64", false, "a")
	h := registrytest.Handler(t, server.Options{})
	var shown atomic.Int64
	storage := a.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown.Add(int64(len(r.TLS.PeerCertificates)))
		h.ServeHTTP(w, r)
	}), false)
	host := a.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, "https://"+storage+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		h.ServeHTTP(w, r)
	}), true)
	a.Issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	c, _ := newClient(t, Options{Transport: transport.Options{
		CAs: map[string][]string{host: {a.File("ca.crt")}}, ClientCerts: map[string]transport.ClientCert{"": {Cert: a.File("client.cert"), Key: a.File("client.key")}},
	}})
	mustPush(t, c, host+"/app:1", img)
	wantPulled(t, c, host+"/app:1", img)
	if n := shown.Load(); n != 0 {
		t.Errorf("the storage received %d client certificates", n)
	}
}

// A token server is verified with the registry's authorities or its own.
func TestTokenServerAuthority(t *testing.T) {
	t.Parallel()
	of, beside := registrytest.NewAuthority(t), registrytest.NewAuthority(t)
	s := registrytest.NewTokenServer(t)
	s.Tokens.URL = "https://" + beside.Serve(http.HandlerFunc(s.IssueToken), false) + "/token"
	host := of.Serve(http.HandlerFunc(s.ServeRegistry), false)
	img := imagetest.New(t, "amd64", false, "a")
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}, Transport: transport.Options{CAs: map[string][]string{host: {of.File("ca.crt")}}}}
	registrytest.WriteConfig(t, o.Credentials.DockerDir, host, "bob", "secret")
	c, _ := newClient(t, o)
	if err := push(c, host+"/app:1", img); err == nil || !strings.Contains(err.Error(), "token server") {
		t.Errorf("an unknown token server: %v", err)
	}
	realm := mustURL(t, s.Tokens.URL).Host
	o.Transport.CAs[realm] = []string{beside.File("ca.crt")}
	c, _ = newClient(t, o)
	mustPush(t, c, host+"/app:1", img)
	o.Transport.CAs = map[string][]string{host: {of.File("ca.crt"), beside.File("ca.crt")}}
	c, _ = newClient(t, o)
	wantPulled(t, c, host+"/app:1", img)
}

// The proxy is that of the environment, which a process reads once.
func TestProxy(t *testing.T) {
	t.Parallel()
	const name = "registry.invalid:5000"
	if os.Getenv("CAIRN_TEST_PROXIED") != "" {
		c, _ := newClient(t, Options{Mirrors: map[string][]string{"127.0.0.1:1": {"http://" + name}}})
		_, err := c.ResolveDigest(context.Background(), "127.0.0.1:1/app:1")
		fmt.Println("answer:", err)
		return
	}
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	for noProxy, want := range map[string]string{"": "not found in registry", "other.invalid": "not found in registry", ".invalid": "mirrors: registry registry.invalid:5000 cannot be reached"} {
		s.Requests()
		child := exec.Command(os.Args[0], "-test.run=^TestProxy$")
		child.Env = append(os.Environ(), "CAIRN_TEST_PROXIED=1", "HTTP_PROXY=http://"+s.Host, "http_proxy=", "NO_PROXY="+noProxy, "no_proxy=")
		out, err := child.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("NO_PROXY=%q: %v\n%s\nwant %q", noProxy, err, out, want)
		}
		if asked := len(s.Requests()) > 0; asked != (noProxy != ".invalid") {
			t.Errorf("NO_PROXY=%q: the proxy was asked: %v", noProxy, asked)
		}
	}
}

// Rules of registries.conf: a mirror, another location, a blocked prefix.
func TestRules(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "a")
	origin, mirror := imagetest.Serve(t, registrytest.Handler(t, server.Options{})), imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	setup, _ := newClient(t, Options{})
	mustPush(t, setup, mirror.Host+"/proxy/app:1", img)
	mustPush(t, setup, origin.Host+"/real/app:2", img)
	conf := filepath.Join(t.TempDir(), "registries.conf")
	text := "[[registry]]\nprefix = \"named.example/team\"\nlocation = \"" + origin.Host + "/real\"\n[[registry.mirror]]\nlocation = \"" + mirror.Host + "/proxy\"\n" +
		"[[registry]]\nlocation = \"named.example/bad\"\nblocked = true\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := registriesconf.Load([]string{conf})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newClient(t, Options{Rules: set})
	origin.Requests()
	wantPulled(t, c, "named.example/team/app:1", img)
	if r := origin.Requests(); len(r) != 0 {
		t.Errorf("the origin was sent %q", r)
	}
	wantPulled(t, c, "named.example/team/app:2", img)
	for _, err := range []error{
		func() error { _, err := c.ResolveDigest(context.Background(), "named.example/bad/app:1"); return err }(),
		push(c, "named.example/bad/app:1", img),
	} {
		if err == nil || !strings.Contains(err.Error(), "named.example/bad/app:1 is blocked, by [[registry]] named.example/bad in "+conf) {
			t.Errorf("blocked: %v", err)
		}
	}
}
