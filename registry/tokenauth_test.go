package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/registrytest"
)

// signedTokens is a token server for docker's registry with signed tokens: bob may
// push, others may pull.
type signedTokens struct {
	t    testing.TB
	of   *registrytest.Authority
	life time.Duration
}

func (s signedTokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if user != "" && (user != "bob" || password != "secret") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	access := []map[string]any{}
	for _, scope := range r.URL.Query()["scope"] {
		part := strings.Split(scope, ":")
		actions := []string{"pull"}
		if user == "bob" {
			actions = strings.Split(part[2], ",")
		}
		access = append(access, map[string]any{"type": part[0], "name": part[1], "actions": actions})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token": s.sign(user, access), "expires_in": int(s.life.Seconds())})
}

func (s signedTokens) sign(user string, access any) string {
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			s.t.Error(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	now := time.Now()
	text := part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.of.Cert.Raw)}}) + "." +
		part(map[string]any{"iss": "test", "sub": user, "aud": "the registry", "exp": now.Add(s.life).Unix(), "nbf": now.Add(-time.Minute).Unix(),
			"iat": now.Unix(), "jti": fmt.Sprint(now.UnixNano()), "access": access})
	sum := sha256.Sum256([]byte(text))
	x, y, err := ecdsa.Sign(rand.Reader, s.of.Key, sum[:])
	if err != nil {
		s.t.Error(err)
	}
	signature := make([]byte, 64)
	x.FillBytes(signature[:32])
	y.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func TestDistributionTokens(t *testing.T) { distributions(t, testTokens) }

func testTokens(t *testing.T, program string) {
	of := registrytest.NewAuthority(t)
	tokens := imagetest.Serve(t, signedTokens{t, of, 5 * time.Minute})
	host := imagetest.Distribution(t, program, "", "auth: {token: {realm: '"+tokens.URL+"/token', service: the registry, issuer: test, rootcertbundle: "+of.File("ca.crt")+"}}\n")
	img := imagetest.New(t, "amd64", false, "one", incompressible(300<<10))
	c, _ := newClient(t, Options{})
	if err := push(c, host+"/team/app:1", img); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("a push without credentials: %v", err)
	}
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	if err := auth.Login(context.Background(), o.Transport, o.Credentials, host, "bob", "wrong"); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("wrong password: %v", err)
	}
	if err := auth.Login(context.Background(), o.Transport, o.Credentials, host, "bob", "secret"); err != nil {
		t.Fatal(err)
	}
	if account, err := auth.WhoAmI(context.Background(), o.Transport, o.Credentials, host); err != nil || account.User != "bob" || !account.Asked {
		t.Errorf("who am I: %+v, %v", account, err)
	}
	c, _ = newClient(t, o)
	mustPush(t, c, host+"/team/app:1", img)
	mustPush(t, c, host+"/other/app:1", img) // mounts, with a token for both
	fresh, _ := newClient(t, Options{})
	wantPulled(t, fresh, host+"/team/app:1", img) // without credentials
	if _, err := fresh.Resolve(context.Background(), host+"/team/app:2", layer.Platform{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such tag: %v", err)
	}
	p, err := fresh.NewPush(host + "/team/app:3")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckRights(context.Background()); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("the right to push without credentials: %v", err)
	}
}

// TestDistributionTLS tests basic credentials over TLS.
func TestDistributionTLS(t *testing.T) { distributions(t, testTLS) }

func testTLS(t *testing.T, program string) {
	of := registrytest.NewAuthority(t)
	of.Issue("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	host := imagetest.Distribution(t, program, "certificate: "+of.File("server.cert")+", key: "+of.File("server.key"), imagetest.Htpasswd(bob(t)))
	o := Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	if err := auth.Login(context.Background(), o.Transport, o.Credentials, host, "bob", "secret"); err == nil || !strings.Contains(err.Error(), "has a certificate that is not trusted") {
		t.Errorf("an unknown authority: %v", err)
	}
	dir := t.TempDir()
	registrytest.CopyFile(t, of.File("ca.crt"), filepath.Join(dir, host, "ca.crt"))
	o.Transport.CertDirs = []string{dir}
	if err := auth.Login(context.Background(), o.Transport, o.Credentials, host, "bob", "secret"); err != nil {
		t.Fatal(err)
	}
	img := imagetest.New(t, "amd64", false, "one", incompressible(300<<10))
	c, _ := newClient(t, o)
	mustPush(t, c, host+"/app:1", img)
	wantPulled(t, c, host+"/app:1", img)
}
