package remote

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-build/cairn/builder/cache/gha"
	"github.com/cairn-build/cairn/builder/cache/gha/fake"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

func newService(t *testing.T, version int) (*Service, *fake.Service) {
	t.Helper()
	f := &fake.Service{}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	c, err := gha.New(gha.Options{URL: server.URL, Token: fake.Token, Version: version})
	if err != nil {
		t.Fatal(err)
	}
	return &Service{Cache: c, Scope: "main, or so"}, f
}

// names returns the names of the records in a service's cache.
func names(t *testing.T, w Location) map[string]bool {
	t.Helper()
	c, err := Read(t.Context(), nil, w, layer.HostPlatform())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, r := range c.records {
		all[r.Name] = true
	}
	return all
}

func TestJobsWriteAService(t *testing.T) {
	for version := 1; version <= 2; version++ {
		service, f := newService(t, version)
		w := Location{Service: service}
		var jobs sync.WaitGroup
		for i := range 4 {
			l := newLab()
			name := fmt.Sprint("job ", i)
			c := l.content(l.step(l.layer(t, name, 10), name, "", int64(i)))
			jobs.Go(func() {
				if err := Write(t.Context(), nil, w, c); err != nil {
					t.Error(err)
				}
			})
		}
		jobs.Wait()
		if all := names(t, w); len(all) != 4 {
			t.Errorf("version %d: of 4 jobs' results there are %v", version, all)
		}
		for _, key := range f.Keys() {
			if strings.ContainsAny(key, ", /") {
				t.Errorf("the key %q is not what the service takes", key)
			}
		}
	}
}

// Layers that the service dropped are missing for readers, and the next cache does not
// contain them.
func TestServiceDrops(t *testing.T) {
	service, f := newService(t, 2)
	w := Location{Service: service}
	l := newLab()
	old := l.layer(t, "old", 10)
	if err := Write(t.Context(), nil, w, l.content(l.step(old, "old", "", 1))); err != nil {
		t.Fatal(err)
	}
	c, err := Read(t.Context(), nil, w, layer.HostPlatform())
	if err != nil {
		t.Fatal(err)
	}
	f.Drop("cairn-blob-")
	if _, err := c.Open(t.Context(), old); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("opening what was dropped: %v", err)
	}
	if err := Write(t.Context(), nil, w, l.content(l.step(l.layer(t, "new", 10), "new", "", 2))); err != nil {
		t.Fatal(err)
	}
	if all := names(t, w); all["old"] || !all["new"] {
		t.Errorf("the cache has %v, want new alone", all)
	}
}

func TestServiceDamage(t *testing.T) {
	service, f := newService(t, 1)
	w := Location{Service: service}
	l := newLab()
	b := l.layer(t, "text", 1000)
	if err := Write(t.Context(), nil, w, l.content(l.step(b, "a", "", 1))); err != nil {
		t.Fatal(err)
	}
	c, err := Read(t.Context(), nil, w, layer.HostPlatform())
	if err != nil {
		t.Fatal(err)
	}
	f.Damage("cairn-blob-")
	r, err := c.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err == nil || !strings.Contains(err.Error(), "its bytes have digest") {
		t.Errorf("reading a damaged layer: %v", err)
	}
	f.Damage("cairn-cache-")
	if _, err := Read(t.Context(), nil, w, layer.HostPlatform()); err == nil {
		t.Error("a damaged cache is read")
	}
}

// A job that was killed while writing has reserved a number that is never completed.
func TestServiceNumberAbandoned(t *testing.T) {
	service, f := newService(t, 2)
	w := Location{Service: service}
	l := newLab()
	for i, name := range []string{"a", "b"} {
		if i == 1 {
			f.Reserve(service.backend("cairn-cache").numbered()+"2", f.Version())
		}
		if err := Write(t.Context(), nil, w, l.content(l.step(l.layer(t, name, 10), name, "", int64(i)))); err != nil {
			t.Fatal(err)
		}
	}
	if all := names(t, w); !all["a"] || !all["b"] {
		t.Errorf("the cache has %v, want a and b", all)
	}
}
