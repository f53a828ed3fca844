package transport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
)

// checkRealm checks the URL of a token server for h.
func checkRealm(t *testing.T, h *Host, realm string) error {
	t.Helper()
	u, err := url.Parse(realm)
	if err != nil {
		t.Fatal(err)
	}
	return h.conn.realmGuard().check(u)
}

func TestCheckRealm(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{Insecure: []string{"plain.example"}}, nil)
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
		if err := checkRealm(t, p.Host(HostConfig{Domain: test.registry}), test.realm); (err == nil) != test.ok {
			t.Errorf("registry %s, realm %s: %v, want ok %v", test.registry, test.realm, err, test.ok)
		}
	}
}

// A registry whose name resolves to a private address may name a token server
// on a private network; one with a public address may not.
func TestRealmByAddress(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Host)
	}
	p := newPool(t, Options{Insecure: []string{"harbor.default.svc"}, Dial: dial}, nil)
	h := p.Host(HostConfig{Domain: "harbor.default.svc:5000"})
	for _, realm := range []string{"http://127.0.0.1/token", "https://10.1.2.3/token"} {
		if err := checkRealm(t, h, realm); err == nil {
			t.Errorf("%s: allowed before the address is known", realm)
		}
	}
	if _, err := h.Do(t.Context(), Request{Method: http.MethodHead, Path: "app/manifests/1"}); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	for realm, ok := range map[string]bool{
		"http://127.0.0.1/token": true, "https://10.1.2.3/token": true, "http://169.254.169.254/": false, "https://auth.example/token": true,
	} {
		if err := checkRealm(t, h, realm); (err == nil) != ok {
			t.Errorf("%s: %v, want ok %v", realm, err, ok)
		}
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]addrClass{
		"registry.example": public, "8.8.8.8": public, "2001:db8::1": public,
		"10.1.2.3": private, "192.168.0.1": private, "fd12::1": private,
		"localhost": loopback, "a.localhost": loopback, "127.0.0.1": loopback, "::1": loopback, "::ffff:127.0.0.1": loopback,
		"169.254.169.254": linkLocal, "fe80::1": linkLocal, "fe80::1%eth0": linkLocal, "fd00:ec2::254": linkLocal,
		"0.0.0.0": linkLocal, "224.0.0.1": linkLocal,
		"0x7f.1": linkLocal, "2130706433": linkLocal, "127.1": linkLocal, "0": linkLocal, "1.": linkLocal, "a.0X7F": linkLocal,
	} {
		if got := classify(host); got != want {
			t.Errorf("%s has class %d, want %d", host, got, want)
		}
	}
}
