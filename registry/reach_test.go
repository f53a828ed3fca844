package registry

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/transport"
)

// closedPort returns a loopback address without a listener.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestRegistryDown(t *testing.T) {
	t.Parallel()
	host := closedPort(t)
	c, waits := newClient(t, Options{})
	err := push(c, host+"/app:1", imagetest.New(t, "amd64", false, "a"))
	wantError(t, err, "push HOST/app:1: registry HOST cannot be reached: connection refused; check its port and that it is running", host, c)
	if !errors.Is(err, ErrUnreachable) {
		t.Error("it is not ErrUnreachable")
	}
	_, err = c.Resolve(context.Background(), host+"/app:1", layer.Platform{})
	wantError(t, err, "pull HOST/app:1: registry HOST cannot be reached: connection refused; check its port and that it is running", host, c)
	if len(*waits) != 0 {
		t.Errorf("retried a registry that has never answered: %v", *waits)
	}
}

func TestUnknownHost(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t, Options{})
	_, err := c.Resolve(context.Background(), "no-such-host.invalid/app:1", layer.Platform{})
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "pull no-such-host.invalid/app:1: registry no-such-host.invalid cannot be reached: ") {
		t.Errorf("error %v", err)
	}
}

// Registries with and without TLS, with and without the insecure option.
func TestSchemes(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "a")
	secure := httptest.NewUnstartedServer(registrytest.Handler(t, server.Options{}))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	tlsHost := secure.Listener.Addr().String()
	plainHost := imagetest.Serve(t, registrytest.Handler(t, server.Options{})).Host

	c, _ := newClient(t, Options{})
	err := push(c, tlsHost+"/app:1", img)
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "has a certificate that is not trusted (") ||
		!strings.HasSuffix(err.Error(), "or skip the check with --insecure-registry "+tlsHost) {
		t.Errorf("unknown authority: error %v", err)
	}
	c, _ = newClient(t, Options{Transport: transport.Options{Insecure: []string{tlsHost}}})
	mustPush(t, c, tlsHost+"/app:1", img)
	wantPulled(t, c, tlsHost+"/app:1", img)

	// Names that are not loopback, but resolve to this machine.
	for _, test := range []struct {
		name, addr string
		insecure   []string
		want       string
	}{
		{"HTTPS registry", tlsHost, nil, "has a certificate that is not trusted"},
		{"HTTPS registry, insecure", tlsHost, []string{"registry.example"}, ""},
		{"HTTPS registry, insecure with its port", tlsHost, []string{"registry.example:5000"}, ""},
		{"HTTP registry", plainHost, nil, "speaks plain HTTP, but HTTPS was wanted (server gave HTTP response to HTTPS client); allow it with --insecure-registry registry.example:5000"},
		{"HTTP registry, insecure", plainHost, []string{"registry.example"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, _ := newClient(t, Options{Transport: transport.Options{
				Insecure: test.insecure,
				Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, test.addr)
				},
			}})
			err := push(c, "registry.example:5000/app:1", img)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// A registry that starts between two requests is reached by the right scheme.
func TestSchemeAfterFailure(t *testing.T) {
	t.Parallel()
	host := closedPort(t)
	c, _ := newClient(t, Options{})
	img := imagetest.New(t, "amd64", false, "a")
	if err := push(c, host+"/app:1", img); err == nil {
		t.Fatal("a push without a registry succeeded")
	}
	l, err := net.Listen("tcp", host)
	if err != nil {
		t.Skip("the port was taken by another process: ", err)
	}
	server := http.Server{Handler: registrytest.Handler(t, server.Options{})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	mustPush(t, c, host+"/app:1", img)
}

func TestNewRefusesInvalidMirrors(t *testing.T) {
	t.Parallel()
	for _, mirrors := range []map[string][]string{{"docker.io": {"a b"}}, {"docker.io": {"x/UPPER"}}, {"": {"x"}}} {
		if _, err := New(Options{Mirrors: mirrors}); err == nil {
			t.Errorf("mirrors %q: no error", mirrors)
		}
	}
	if _, err := New(Options{Transport: transport.Options{Insecure: []string{"a/b"}}}); err == nil {
		t.Error("insecure host a/b: no error")
	}
	mirrors := map[string][]string{"docker.io": {"mirror.gcr.io", "http://localhost:5000", "https://x.y/proxy/"}}
	if _, err := New(Options{Mirrors: mirrors}); err != nil {
		t.Errorf("mirrors %q: %v", mirrors, err)
	}
}
