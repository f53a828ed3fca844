package builder

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/server"
)

// hub is a registry that records its requests.
type hub struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
	received atomic.Int64                   // bytes of all requests
	refuses  func(method, path string) bool // requests that are denied; nil: none
}

func newHub(t *testing.T) *hub {
	t.Helper()
	handler, err := server.Handler(t.TempDir(), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.requests = append(h.requests, r.Method+" "+r.URL.Path)
		denied := h.refuses != nil && h.refuses(r.Method, r.URL.Path)
		h.mu.Unlock()
		if denied {
			http.Error(w, "denied", http.StatusForbidden)
			return
		}
		r.Body = counted{r.Body, &h.received}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

// counted counts the bytes of a body.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (h *hub) host() string { return strings.TrimPrefix(h.URL, "http://") }

// take returns the requests since the last call.
func (h *hub) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.requests
	h.requests = nil
	return r
}

// refuse denies the requests that f matches.
func (h *hub) refuse(f func(method, path string) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuses = f
}

func count(requests []string, method, part string) (n int) {
	for _, r := range requests {
		if strings.HasPrefix(r, method+" ") && strings.Contains(r, part) {
			n++
		}
	}
	return n
}

// mirrored returns a store with a client whose docker.io is a hub.
func mirrored(t *testing.T, h *hub) *testEnv {
	t.Helper()
	return newBuilder(t, &registry.Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}, Mirrors: map[string][]string{"docker.io": {h.host()}}})
}

// contextOf writes a build context and returns its directory.
func contextOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		put(t, filepath.Join(dir, name), []byte(text))
	}
	return dir
}

// publish builds a base image of three layers and pushes it.
func publish(t *testing.T, h *hub, ref string) {
	t.Helper()
	dir := contextOf(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\nCOPY b /\nCOPY c /\n", "a": "1", "b": "2", "c": "3"})
	b := newBuilder(t, nil)
	if _, err := b.Build(t.Context(), options{Context: dir, Tags: []string{h.host() + "/" + ref}, Push: true}); err != nil {
		t.Fatal(err)
	}
	h.take()
}

// An image that changes only the config of its base needs none of its layers: none is
// fetched, and each is mounted across repositories.
func TestMetadataMovesNoLayer(t *testing.T) {
	h := newHub(t)
	publish(t, h, "library/base")
	b := newBuilder(t, nil)
	dir := contextOf(t, map[string]string{"Dockerfile": "FROM " + h.host() + "/library/base\nENV A=1\n"})
	built, err := b.Build(t.Context(), options{Context: dir, Tags: []string{h.host() + "/own/image"}, Push: true})
	if err != nil {
		t.Fatal(err)
	}
	r := h.take()
	for _, l := range built.Image.Layers {
		if n := count(r, "GET", string(l.Digest)); n != 0 {
			t.Errorf("layer %s was fetched %d times", l.Digest, n)
		}
		if _, ok := b.Store.TouchBlob(l.Digest); ok {
			t.Errorf("layer %s is in the store", l.Digest)
		}
	}
	if n := count(r, "PATCH", "/own/image/"); n > 1 { // the config
		t.Errorf("%d uploads: %q", n, r)
	}
	// The image can be pushed elsewhere later, and pulled from there.
	other := newHub(t)
	if err := b.Tag(h.host()+"/own/image", other.host()+"/copy"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Push(t.Context(), other.host()+"/copy"); err != nil {
		t.Fatal(err)
	}
	_, digest, err := newBuilder(t, nil).Pull(t.Context(), other.host()+"/copy", layer.Platform{})
	if err != nil || digest != built.Image.Digest {
		t.Errorf("pulled %s, %v; want %s", digest, err, built.Image.Digest)
	}
}

// An unchanged build resolves its base, checks that the registry has the image, and
// uploads nothing.
func TestWarmPushAsksTwice(t *testing.T) {
	h := newHub(t)
	publish(t, h, "library/base")
	b := mirrored(t, h)
	dir := contextOf(t, map[string]string{"Dockerfile": "FROM base\nCOPY f /\n", "f": "x"})
	o := options{Context: dir, Tags: []string{h.host() + "/own/image"}, Push: true}
	first, err := b.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	h.take()
	second, err := b.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if first.Image.Digest != second.Image.Digest {
		t.Errorf("digests %s, %s", first.Image.Digest, second.Image.Digest)
	}
	if r := h.take(); len(r) > 4 || count(r, "PUT", "") > 0 || count(r, "POST", "") > 0 {
		t.Errorf("%d requests: %q", len(r), r)
	}
}

// COPY onto a base reads each of its layers once, for the listing, and unpacks none. A
// second image on the same base reads none.
func TestCopyOntoBaseReadsLayersOnce(t *testing.T) {
	h := newHub(t)
	publish(t, h, "library/base")
	b := mirrored(t, h)
	for i, f := range []string{"one", "two"} {
		dir := contextOf(t, map[string]string{"Dockerfile": "FROM base\nCOPY " + f + " /\n", f: f})
		if _, err := b.Build(t.Context(), options{Context: dir, Tags: []string{f}}); err != nil {
			t.Fatal(err)
		}
		want := 3 - 3*i
		if r := h.take(); count(r, "GET", "/blobs/") > want+1 { // and the config
			t.Errorf("build %d: %q", i+1, r)
		}
	}
	if u, err := b.Store.Usage(); err != nil || u.Trees.Bytes != 0 {
		t.Errorf("trees %+v, %v; want none", u, err)
	}
}

// If the registry is down, a build uses the digest that the name had last time. With
// Pull it fails.
func TestOfflineRebuild(t *testing.T) {
	h := newHub(t)
	publish(t, h, "library/base")
	b := newBuilder(t, nil)
	var out strings.Builder
	dir := contextOf(t, map[string]string{"Dockerfile": "FROM " + h.host() + "/library/base\nCOPY f /\n", "f": "x"})
	first, err := b.Build(t.Context(), options{Context: dir, Tags: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	b.Registry = newBuilder(t, nil).Registry // as the next process: it never heard of the registry
	b.Progress = plain(&out)
	second, err := b.Build(t.Context(), options{Context: dir, Tags: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	b.Progress.Close()
	if second.Image.Digest != first.Image.Digest {
		t.Errorf("digest %s, want %s", second.Image.Digest, first.Image.Digest)
	}
	if !strings.Contains(out.String(), "as it was last time") {
		t.Errorf("no warning in %q", out.String())
	}
	if _, err := b.Build(t.Context(), options{Context: dir, Tags: []string{"x"}, Pull: true}); err == nil {
		t.Error("--pull succeeded with the registry down")
	}
}

// An image that was just built can be a base without a registry.
func TestFromLocalTag(t *testing.T) {
	b := newBuilder(t, nil)
	base := contextOf(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY f /\nENV BASE=1\n", "f": "x"})
	if _, err := b.Build(t.Context(), options{Context: base, Tags: []string{"my/base:1"}}); err != nil {
		t.Fatal(err)
	}
	dir := contextOf(t, map[string]string{"Dockerfile": "FROM my/base:1\nCOPY g /\n", "g": "y"})
	built, err := b.Build(t.Context(), options{Context: dir, Tags: []string{"own"}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(built.Image.Layers); n != 2 || !strings.Contains(string(built.Image.Config), "BASE=1") {
		t.Errorf("%d layers, config %s", n, built.Image.Config)
	}
}

// If the blob of a record is gone, the step runs again.
func TestLostBlobIsMadeAgain(t *testing.T) {
	dir := contextOf(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY f /\n", "f": "x"})
	root := t.TempDir()
	build := func(lose func(*store.Store, *Built)) *Built {
		s, err := store.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b := newBuilder(t, nil)
		b.Store = s
		built, err := b.Build(t.Context(), options{Context: dir, Tags: []string{"x"}, Now: time.Unix(epoch, 0)})
		if err != nil {
			t.Fatal(err)
		}
		lose(s, built)
		return built
	}
	first := build(func(s *store.Store, b *Built) { removeBlob(t, s, b.Image.Layers[0].Digest) })
	second := build(func(*store.Store, *Built) {})
	if first.Image.Layers[0].Digest != second.Image.Layers[0].Digest {
		t.Errorf("layers %v, %v", first.Image.Layers, second.Image.Layers)
	}
}

// Manifest and layers have the requested compression.
func TestCompressions(t *testing.T) {
	dir := contextOf(t, map[string]string{"Dockerfile": "FROM scratch AS a\nCOPY f /\nFROM a\nCOPY g /\n", "f": "x", "g": "y"})
	b := newBuilder(t, nil)
	for _, f := range []compress.Format{compress.Gzip, compress.Zstd, compress.Uncompressed, ""} {
		built, err := b.Build(t.Context(), options{Context: dir, Tags: []string{"x"}, Compression: Compression{Options: compress.Options{Format: f}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range built.Image.Layers {
			raw, err := b.Store.OpenBlob(l.Digest)
			if err != nil {
				t.Fatal(err)
			}
			magic := make([]byte, 2)
			if _, err := io.ReadFull(raw, magic); err != nil {
				t.Fatal(err)
			}
			raw.Close()
			want := map[compress.Format]string{"gzip": "\x1f\x8b", "": "\x1f\x8b", "zstd": "\x28\xb5", "uncompressed": string(magic)}[f]
			if string(magic) != want || !strings.Contains(l.MediaType, strings.TrimPrefix(string(f), "un")) && f != compress.Uncompressed {
				t.Errorf("%s: layer %s begins with %q", f, l.MediaType, magic)
			}
		}
	}
}

func plain(w io.Writer) *progress.Reporter { return progress.New(progress.Plain, w) }

// removeBlob deletes a blob from the directory of a store.
func removeBlob(t *testing.T, s *store.Store, d layer.Digest) {
	t.Helper()
	f, err := s.OpenBlob(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
}
