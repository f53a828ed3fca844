package builder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

// tail is a context whose steps depend on the files below them.
var tail = map[string]string{
	"Dockerfile": "FROM base\nCOPY etc /etc/\nWORKDIR /app/deep\nCOPY --chown=me source .\nENV A=1\n",
	"etc/passwd": "me:x:1000:1000::/:/bin/sh\n", "etc/group": "me:x:1000:\n", "source": "one",
}

func cached(h *hub) options {
	return options{Tags: []string{h.host() + "/own/image"}, Push: true, CacheFrom: []remote.Location{{Ref: h.host() + "/own/cache:latest"}}}
}

// fetched counts how often the layers of an image were fetched.
func fetched(requests []string, img layer.Image) (n int) {
	for _, l := range img.Layers {
		n += count(requests, "GET", string(l.Digest))
	}
	return n
}

// A build in an empty store takes all results from a cache in a registry and transfers
// no layer, whether all steps are cached or a COPY is new.
func TestColdMachineMovesNoLayer(t *testing.T) {
	h := newHub(t)
	publish(t, h, "library/base")
	dir := contextOf(t, tail)
	o := cached(h)
	o.Context = dir
	o.CacheTo = []CacheTo{{Location: o.CacheFrom[0], Max: true, Strict: true}}
	first, err := mirrored(t, h).Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	o.CacheTo = nil
	o.Tags = []string{h.host() + "/other/image"}
	h.take()
	second, err := mirrored(t, h).Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if first.Image.ConfigDigest != second.Image.ConfigDigest {
		t.Errorf("config %s, from the cache %s", first.Image.Config, second.Image.Config)
	}
	r := h.take()
	if n := fetched(r, second.Image); n != 0 {
		t.Errorf("layers were fetched %d times: %q", n, r)
	}
	if n := count(r, "PATCH", "") + count(r, "PUT", "/blobs/"); n > 2 { // the config
		t.Errorf("%d uploads: %q", n, r)
	}

	put(t, filepath.Join(dir, "source"), []byte("two"))
	h.take()
	third, err := mirrored(t, h).Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r := h.take(); fetched(r, third.Image) != 0 {
		t.Errorf("a COPY fetched layers: %q", r)
	}
	if n := len(third.Image.Layers); n != len(first.Image.Layers) || third.Image.Layers[n-1].Digest == first.Image.Layers[n-1].Digest {
		t.Errorf("layers %v, want another last one than in %v", third.Image.Layers, first.Image.Layers)
	}
}

// A layer that a cache lists, but has lost, is built again.
func TestCacheThatLostALayer(t *testing.T) {
	dir := contextOf(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY f /\n", "f": "x"})
	folder := filepath.Join(t.TempDir(), "cache")
	o := options{Context: dir, Tags: []string{"x"}, CacheTo: []CacheTo{{Location: remote.Location{Dir: folder}, Strict: true}}}
	first, err := newBuilder(t, nil).Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(folder, "blobs/sha256", first.Image.Layers[0].Digest.Hex())
	if err := os.Remove(blob); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	b := newBuilder(t, nil)
	b.Progress = plain(&out)
	o.CacheFrom, o.CacheTo = []remote.Location{{Dir: folder}}, nil
	second, err := b.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	b.Progress.Close()
	if second.Image.Layers[0].Digest != first.Image.Layers[0].Digest || !strings.Contains(out.String(), "building without caches") {
		t.Errorf("layers %v, want %v, after a warning in:\n%s", second.Image.Layers, first.Image.Layers, &out)
	}
}

// A cache that cannot be written is a warning, or an error if it is strict.
func TestCacheThatCannotBeWritten(t *testing.T) {
	h := newHub(t)
	publish(t, h, "library/base")
	var out strings.Builder
	b := newBuilder(t, nil)
	b.Progress = plain(&out)
	o := options{Context: contextOf(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY f /\n", "f": "x"}), Tags: []string{"x"}}
	o.CacheTo = []CacheTo{{Location: remote.Location{Ref: h.host() + "/library/base:latest"}}} // an image, no cache
	if _, err := b.Build(t.Context(), o); err != nil {
		t.Error(err)
	}
	o.CacheTo[0].Strict = true
	if _, err := b.Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), "not a cache: choose another name") {
		t.Errorf("with ignore-error=false: %v", err)
	}
	b.Progress.Close()
	if !strings.Contains(out.String(), "choose another name") {
		t.Errorf("no warning in:\n%s", &out)
	}
	if _, err := remote.Read(t.Context(), b.Registry, o.CacheTo[0].Location, layer.Platform{}); !errors.Is(err, remote.ErrNotFound) && !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("the image became a cache: %v", err)
	}
}
