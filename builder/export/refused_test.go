package export

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/server"
)

// A reference that a registry refuses does not keep the others from being pushed.
func TestRefusedReferences(t *testing.T) {
	t.Parallel()
	h, err := server.Handler(t.TempDir(), server.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	r := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/immutable"):
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"errors":[{"code":"TAG_INVALID","message":"the tag is immutable"}]}`))
		case r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v2/full/"):
			w.WriteHeader(http.StatusInsufficientStorage)
		default:
			h.ServeHTTP(w, r)
		}
	}))
	s, c := openStore(t), newClient(t)
	app, full, other, only := r.Host+"/app", r.Host+"/full", r.Host+"/other", r.Host+"/only"
	o := Options{Push: true, Tags: []string{app + ":immutable", full + ":1", full + ":2", app + ":2", other + ":immutable-too", other + ":1", only + ":immutable"}, Outputs: []Output{
		{Type: "image", Push: true, ByDigest: true, Names: []string{app, only}},
	}}
	out, err := export(t, Environment{Store: s, Registry: c}, o, built(t, s, "amd64", "one"))
	wantError(t, err, "push "+app+":immutable: manifest: registry "+r.Host+" answered 400 Bad Request; TAG_INVALID: the tag is immutable; push "+full+":1: blob",
		"507 Insufficient Storage", "; push "+other+":immutable-too: ", "; pushed nevertheless: "+app+":2, "+app+"@"+string(out.Digest())+", "+other+":1, "+only+"@"+string(out.Digest()))
	if n := strings.Count(err.Error(), "507"); n != 1 {
		t.Errorf("the full repository is named %d times: %v", n, err)
	}
	var failed *PushError
	if !errors.As(err, &failed) || len(failed.Errs) != 4 {
		t.Errorf("error %#v, want four", err)
	}
	wantList(t, "pushed", out.Pushed, app+":2", app+"@"+string(out.Digest()), other+":1", only+"@"+string(out.Digest()))
	for _, ref := range o.Tags {
		d, err := c.ResolveDigest(t.Context(), ref)
		pushed := slices.Contains(out.Pushed, ref)
		if pushed && (err != nil || d != out.Digest()) || !pushed && !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("%s is %s, %v", ref, d, err)
		}
	}
	if err := (&PushError{Errs: []error{err}}).Err(); err != failed.Err() {
		t.Errorf("a single error is %v", err)
	}
	for _, name := range []string{app, only} {
		if _, err := c.Resolve(t.Context(), name+"@"+string(out.Digest()), layer.Platform{OS: "linux", Architecture: "amd64"}); err != nil {
			t.Error(err)
		}
	}
}
