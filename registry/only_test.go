package registry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/transport"
)

// InsecurePull accepts an untrusted certificate for pulls, also of mirrors, and not for
// pushes.
func TestInsecurePull(t *testing.T) {
	t.Parallel()
	a := registrytest.NewAuthority(t)
	host := a.Serve(registrytest.Handler(t, server.Options{}), false)
	img := imagetest.New(t, "amd64", false, "a")
	trusting, _ := newClient(t, Options{Transport: transport.Options{CAs: map[string][]string{host: {a.File("ca.crt")}}}})
	mustPush(t, trusting, host+"/library/app:1", img)
	c, _ := newClient(t, Options{InsecurePull: true, Mirrors: map[string][]string{"docker.io": {host}}})
	wantPulled(t, c, host+"/library/app:1", img)
	wantPulled(t, c, "docker.io/library/app:1", img)
	push, err := c.NewPush(host + "/library/app:2")
	if err != nil {
		t.Fatal(err)
	}
	if err := push.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "has a certificate that is not trusted") {
		t.Errorf("a push: %v", err)
	}
}

// MirrorsOnly never asks a registry that has mirrors, and asks one that has none.
func TestMirrorsOnly(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	h := registrytest.Handler(t, server.Options{})
	origin := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		h.ServeHTTP(w, r)
	}))
	mirror := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	img := imagetest.New(t, "amd64", false, "a")
	plain, _ := newClient(t, Options{})
	mustPush(t, plain, origin.Host+"/app:1", img)
	asked.Store(0)
	c, _ := newClient(t, Options{MirrorsOnly: true, Mirrors: map[string][]string{origin.Host: {mirror.Host, "127.0.0.1:1"}}})
	for range 2 { // the second time the mirror that does not answer is known
		_, err := c.Resolve(t.Context(), origin.Host+"/app:1", layer.HostPlatform())
		if err == nil || !strings.Contains(err.Error(), "only mirrors may be asked: not found in registry "+mirror.Host) || !strings.Contains(err.Error(), "127.0.0.1:1") || asked.Load() != 0 {
			t.Errorf("%v, %d requests", err, asked.Load())
		}
	}
	other, _ := newClient(t, Options{MirrorsOnly: true, Mirrors: map[string][]string{"docker.io": {mirror.Host}}})
	wantPulled(t, other, origin.Host+"/app:1", img)
}

// Tries is the number of attempts, if it is larger than the usual one.
func TestTries(t *testing.T) {
	t.Parallel()
	for tries, want := range map[int]int64{0: 5, 2: 5, 8: 8} {
		var asked atomic.Int64
		s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		c, err := New(Options{Transport: transport.Options{Tries: tries, Sleep: func(context.Context, time.Duration) error { return nil }}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.ResolveDigest(t.Context(), s.Host+"/app:1")
		if err == nil || errors.Is(err, ErrNotFound) || asked.Load() != want {
			t.Errorf("%d tries: %d requests, want %d; %v", tries, asked.Load(), want, err)
		}
		c.Close()
	}
}
