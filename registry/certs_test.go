package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/registry/internal/imagetest"
	"github.com/cairn-build/cairn/registry/rules"
	"github.com/cairn-build/cairn/registry/serve"
)

// authority makes certificates for tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes NAME.crt, NAME.cert and NAME.key.
func (a *authority) issue(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(1), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, b := range map[string][]byte{
		".crt": public, ".cert": public, ".key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	} {
		if err := os.WriteFile(a.file(name+file), b, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// serve starts a TLS server that this authority vouches for. It wants a
// client's certificate of it too if mutual.
func (a *authority) serve(h http.Handler, mutual bool) string {
	a.issue("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	pair, err := tls.LoadX509KeyPair(a.file("server.cert"), a.file("server.key"))
	if err != nil {
		a.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if mutual {
		s.TLS.ClientCAs = x509.NewCertPool()
		s.TLS.ClientCAs.AddCert(a.cert)
		s.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	}
	s.StartTLS()
	a.t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o700)
	}
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAuthorities(t *testing.T) {
	a := newAuthority(t)
	host := a.serve(handler(t, serve.Options{}), false)
	img := imagetest.New(t, "amd64", false, "a")
	dir, other := t.TempDir(), t.TempDir()
	copyFile(t, a.file("ca.crt"), filepath.Join(dir, host, "ca.crt"))
	if err := os.MkdirAll(filepath.Join(other, host), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		o    Options
		want string
	}{
		"unknown":            {Options{}, "has a certificate that is not trusted"},
		"folder":             {Options{CertDirs: []string{filepath.Join(dir, "missing"), dir}}, ""},
		"an empty one first": {Options{CertDirs: []string{other, dir}}, "has a certificate that is not trusted"},
		"file":               {Options{CAs: map[string][]string{host: {a.file("ca.crt")}}}, ""},
		"file, any port":     {Options{CAs: map[string][]string{"127.0.0.1": {a.file("ca.crt")}}}, ""},
		"file for all":       {Options{CAs: map[string][]string{"": {a.file("ca.crt")}}}, ""},
		"for another":        {Options{CAs: map[string][]string{"other.example": {a.file("ca.crt")}}}, "has a certificate that is not trusted"},
		"not there":          {Options{CAs: map[string][]string{host: {a.file("none")}}}, a.file("none") + ": no such file"},
		"none":               {Options{CAs: map[string][]string{host: {a.file("ca.key")}}}, a.file("ca.key") + ": no certificate in PEM form"},
	} {
		c, _ := newClient(t, test.o)
		if err := push(c, host+"/app:1", img); test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
}

// A registry that wants a certificate of its client.
func TestClientCert(t *testing.T) {
	a := newAuthority(t)
	img := imagetest.New(t, "amd64", false, "a")
	host := a.serve(handler(t, serve.Options{}), true)
	a.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})

	c, _ := newClient(t, Options{CAs: map[string][]string{host: {a.file("ca.crt")}}})
	if err := push(c, host+"/app:1", img); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without a certificate: %v", err)
	}
	dir := t.TempDir()
	for _, file := range []string{"ca.crt", "client.cert", "client.key"} {
		copyFile(t, a.file(file), filepath.Join(dir, host, file))
	}
	c, _ = newClient(t, Options{CertDirs: []string{dir}})
	mustPush(t, c, host+"/app:1", img)
	wantPulled(t, c, host+"/app:1", img)
	c, _ = newClient(t, Options{
		CAs: map[string][]string{"": {a.file("ca.crt")}}, ClientCerts: map[string]ClientCert{host: {a.file("client.cert"), a.file("client.key")}},
	})
	wantPulled(t, c, host+"/app:1", img)

	if err := os.Remove(filepath.Join(dir, host, "client.key")); err != nil {
		t.Fatal(err)
	}
	c, _ = newClient(t, Options{CertDirs: []string{dir}})
	if err := push(c, host+"/app:1", img); err == nil || !strings.Contains(err.Error(), "client.cert has no client.key beside it") {
		t.Errorf("half a pair: %v", err)
	}
}

// A redirect to storage elsewhere takes the registry's authorities with it,
// and no certificate of the client.
func TestRedirectSeesNoClientCert(t *testing.T) {
	a := newAuthority(t)
	img := imagetest.New(t, "amd64", false, "a")
	h := handler(t, serve.Options{})
	var shown int
	storage := a.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown += len(r.TLS.PeerCertificates)
		h.ServeHTTP(w, r)
	}), false)
	host := a.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, "https://"+storage+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		h.ServeHTTP(w, r)
	}), true)
	a.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	c, _ := newClient(t, Options{
		CAs: map[string][]string{host: {a.file("ca.crt")}}, ClientCerts: map[string]ClientCert{"": {a.file("client.cert"), a.file("client.key")}},
	})
	mustPush(t, c, host+"/app:1", img)
	wantPulled(t, c, host+"/app:1", img)
	if shown != 0 {
		t.Errorf("the storage was shown %d certificates", shown)
	}
}

// A token server is trusted by the registry's authorities, or by its own.
func TestTokenServerAuthority(t *testing.T) {
	of, beside := newAuthority(t), newAuthority(t)
	s := newTokenServer(t)
	s.tokens.URL = "https://" + beside.serve(http.HandlerFunc(s.issue), false) + "/token"
	host := of.serve(http.HandlerFunc(s.serve), false)
	img := imagetest.New(t, "amd64", false, "a")
	o := Options{Docker: t.TempDir(), CAs: map[string][]string{host: {of.file("ca.crt")}}}
	writeConfig(t, o.Docker, host, "bob", "secret")
	c, _ := newClient(t, o)
	if err := push(c, host+"/app:1", img); err == nil || !strings.Contains(err.Error(), "token server") {
		t.Errorf("an unknown token server: %v", err)
	}
	realm := mustURL(t, s.tokens.URL).Host
	o.CAs[realm] = []string{beside.file("ca.crt")}
	c, _ = newClient(t, o)
	mustPush(t, c, host+"/app:1", img)
	o.CAs = map[string][]string{host: {of.file("ca.crt"), beside.file("ca.crt")}}
	c, _ = newClient(t, o)
	wantPulled(t, c, host+"/app:1", img)
}

// A registry whose name leads to a private address may name a token server
// there, and one that is reached by a public address may not.
func TestRealmByAddress(t *testing.T) {
	s := imagetest.Serve(t, handler(t, serve.Options{}))
	c, _ := newClient(t, Options{Insecure: []string{"harbor.default.svc"}})
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Host)
	}
	c.checked.DialContext, c.lenient.DialContext = dial, dial
	h := c.host("harbor.default.svc:5000")
	for _, realm := range []string{"http://127.0.0.1/token", "https://10.1.2.3/token"} {
		if err := h.checkRealm(mustURL(t, realm)); err == nil {
			t.Errorf("%s: allowed before anything is known", realm)
		}
	}
	if _, err := c.ResolveDigest(context.Background(), "harbor.default.svc:5000/app:1"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	for realm, ok := range map[string]bool{
		"http://127.0.0.1/token": true, "https://10.1.2.3/token": true, "http://169.254.169.254/": false, "https://auth.example/token": true,
	} {
		if err := h.checkRealm(mustURL(t, realm)); (err == nil) != ok {
			t.Errorf("%s: %v, want ok %v", realm, err, ok)
		}
	}
}

// Proxies are those of the environment, which a process reads once.
func TestProxy(t *testing.T) {
	const name = "registry.invalid:5000"
	if os.Getenv("CAIRN_TEST_PROXIED") != "" {
		c, _ := newClient(t, Options{Mirrors: map[string][]string{"127.0.0.1:1": {"http://" + name}}})
		_, err := c.ResolveDigest(context.Background(), "127.0.0.1:1/app:1")
		fmt.Println("answer:", err)
		return
	}
	s := imagetest.Serve(t, handler(t, serve.Options{}))
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

// Rules of registries.conf: mirrors, another place, what is blocked.
func TestRules(t *testing.T) {
	img := imagetest.New(t, "amd64", false, "a")
	origin, mirror := imagetest.Serve(t, handler(t, serve.Options{})), imagetest.Serve(t, handler(t, serve.Options{}))
	setup, _ := newClient(t, Options{})
	mustPush(t, setup, mirror.Host+"/proxy/app:1", img)
	mustPush(t, setup, origin.Host+"/real/app:2", img)
	conf := filepath.Join(t.TempDir(), "registries.conf")
	text := "[[registry]]\nprefix = \"named.example/team\"\nlocation = \"" + origin.Host + "/real\"\n[[registry.mirror]]\nlocation = \"" + mirror.Host + "/proxy\"\n" +
		"[[registry]]\nlocation = \"named.example/bad\"\nblocked = true\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := rules.Load([]string{conf})
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
