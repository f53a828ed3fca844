package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/server/faultinject"
	"github.com/cairn-build/cairn/registry/transport"
)

// putIndex pushes images and an index of them.
func putIndex(t testing.TB, c *Client, s *imagetest.Server, repo, tag string, entries []map[string]any, images ...imagetest.Image) {
	t.Helper()
	for _, img := range images {
		mustPush(t, c, s.Host+"/"+repo+"@"+string(img.Digest), img)
	}
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": layer.MediaTypeIndex, "manifests": entries})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPut, s.URL+"/v2/"+repo+"/manifests/"+tag, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", layer.MediaTypeIndex)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("index: %s: %s", resp.Status, b)
	}
}

func entry(img imagetest.Image, platform map[string]string) map[string]any {
	return map[string]any{"mediaType": img.MediaType, "digest": img.Digest, "size": len(img.Manifest), "platform": platform}
}

func TestResolveIndex(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	c, _ := newClient(t, Options{})
	amd64, arm64 := imagetest.New(t, "amd64", false, "a"), imagetest.New(t, "arm64", false, "b")
	armv6 := imagetest.New(t, "arm", true, "c")
	attestation := imagetest.New(t, "unknown", false, "d")
	putIndex(t, c, s, "app", "1", []map[string]any{
		entry(attestation, map[string]string{"os": "unknown", "architecture": "unknown"}),
		entry(amd64, map[string]string{"os": "linux", "architecture": "amd64"}),
		entry(arm64, map[string]string{"os": "linux", "architecture": "arm64", "variant": "v8"}),
		entry(armv6, map[string]string{"os": "linux", "architecture": "arm", "variant": "v6"}),
	}, attestation, amd64, arm64, armv6)
	for platform, want := range map[string]imagetest.Image{
		"linux/amd64": amd64, "linux/amd64/v3": amd64, "linux/arm64": arm64, "linux/arm64/v8": arm64, "linux/arm/v7": armv6,
	} {
		p, err := layer.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		s.Requests()
		got, err := c.Resolve(context.Background(), s.Host+"/app:1", p)
		if err != nil || got.Digest != want.Digest {
			t.Errorf("%s: got %s, %v, want %s", platform, got.Digest, err, want.Digest)
		}
		if r := s.Requests(); len(r) != 3 {
			t.Errorf("%s: requests %q, want index, manifest, config", platform, r)
		}
	}
	_, err := c.Resolve(context.Background(), s.Host+"/app:1", layer.Platform{OS: "linux", Architecture: "riscv64"})
	wantError(t, err, "pull HOST/app:1: index has no image for linux/riscv64; it has linux/amd64, linux/arm64/v8, linux/arm/v6", s.Host, c)
	if !errors.Is(err, ErrNotFound) {
		t.Error("it is not ErrNotFound")
	}
}

func TestResolveDigest(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "a")
	h := registrytest.Handler(t, server.Options{})
	noHead := faultinject.Handler(h, faultinject.Fault{Match: func(r *http.Request) bool { return r.Method == http.MethodHead }, Status: 405})
	for name, h := range map[string]http.Handler{"HEAD": h, "no HEAD": noHead} {
		s := imagetest.Serve(t, h)
		c, _ := newClient(t, Options{})
		mustPush(t, c, s.Host+"/app:1", img)
		d, err := c.ResolveDigest(context.Background(), s.Host+"/app:1")
		if err != nil || d != img.Digest {
			t.Errorf("%s: %s, %v, want %s", name, d, err, img.Digest)
		}
		if _, err := c.ResolveDigest(context.Background(), s.Host+"/app:2"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
}

// Interrupted downloads are resumed, with and without support for ranges.
func TestDownloadResumes(t *testing.T) {
	t.Parallel()
	isBlob := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
	}
	img := imagetest.New(t, "amd64", false, incompressible(3<<20))
	noRange := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			h.ServeHTTP(w, r)
		})
	}
	for name, wrap := range map[string]func(http.Handler) http.Handler{"ranges": func(h http.Handler) http.Handler { return h }, "no ranges": noRange} {
		t.Run(name, func(t *testing.T) {
			h := registrytest.Handler(t, server.Options{})
			s := imagetest.Serve(t, h)
			c, waits := newClient(t, Options{})
			mustPush(t, c, s.Host+"/app:1", img)
			h = faultinject.Handler(h, faultinject.Fault{Match: isBlob, Times: 2, Cut: 1 << 20})
			h = faultinject.Handler(h, faultinject.Fault{Match: isBlob, Times: 1, Status: 502})
			cut := imagetest.Serve(t, wrap(h))
			b := img.Layers[0]
			if got := mustRead(t, c, cut.Host+"/app:1", b); !bytes.Equal(got, img.Blobs[b.Digest]) {
				t.Error("the blob came back different")
			}
			if len(*waits) != 3 {
				t.Errorf("waits %v, want 3", *waits)
			}
		})
	}
}

func TestDownloadReader(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	c, _ := newClient(t, Options{})
	img := imagetest.New(t, "amd64", false, incompressible(10000))
	mustPush(t, c, s.Host+"/app:1", img)
	r, err := c.OpenBlob(context.Background(), s.Host+"/app:1", img.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := iotest.TestReader(r, img.Blobs[img.Layers[0].Digest]); err != nil {
		t.Error(err)
	}
	r.Close()
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("a closed download can be read")
	}
}

// Content that does not match its descriptor is an error.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "a")
	isBlob := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
	}
	isManifest := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/")
	}
	answer := func(match func(*http.Request) bool, contentType string, body string) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !match(r) {
					h.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Content-Type", contentType)
				fmt.Fprint(w, body)
			})
		}
	}
	faulty := func(f faultinject.Fault) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler { return faultinject.Handler(h, f) }
	}
	big := `{"schemaVersion":2,"x":"` + strings.Repeat("x", transport.MaxManifest) + `"}`
	huge := fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q,"size":%d}}`, someDigest, maxConfig+1)
	nested := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"digest":%q}]}`, someDigest)
	for _, test := range []struct {
		name string
		wrap func(http.Handler) http.Handler
		want string
	}{
		{"manifest changed", faulty(faultinject.Fault{Match: isManifest, Corrupt: true}), " has digest "},
		{"blob changed", faulty(faultinject.Fault{Match: isBlob, Corrupt: true}), "content from registry "},
		{"blob longer", answer(isBlob, "", strings.Repeat("x", 10000)), " sent more than the expected "},
		{"blob shorter", answer(isBlob, "", "x"), "unexpected EOF"},
		{"manifest too large", answer(isManifest, layer.MediaTypeManifest, big), "is larger than 4194304 bytes"},
		{"config too large", answer(isManifest, layer.MediaTypeManifest, huge), "want at most 8388608"},
		{"page of a proxy", answer(isManifest, "text/html", "<html>Please log in"), "parse manifest: invalid character '<'"},
		{"docker's first schema", answer(isManifest, "application/vnd.docker.distribution.manifest.v1+prettyjws", "{}"), "schema 1"},
		{"index and image", answer(isManifest, layer.MediaTypeIndex, `{"schemaVersion":2,"manifests":[],"layers":[]}`), "also an image"},
		{"empty index", answer(isManifest, layer.MediaTypeIndex, `{"schemaVersion":2}`), "nor for another platform"},
		{"hostile digest", answer(isManifest, layer.MediaTypeIndex, `{"schemaVersion":2,"manifests":[{"digest":"sha256:../../../etc/passwd"}]}`), "digest"},
		{"redirects without end", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
			})
		}, "redirects more than 10 times"},
		{"other digest", answer(isManifest, layer.MediaTypeIndex, nested), " has digest "},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := registrytest.Handler(t, server.Options{})
			good := imagetest.Serve(t, h)
			c, _ := newClient(t, Options{})
			mustPush(t, c, good.Host+"/app:1", img)
			bad := imagetest.Serve(t, test.wrap(h))
			_, err := c.Resolve(context.Background(), bad.Host+"/app:1", layer.Platform{OS: "linux", Architecture: "amd64"})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "pull "+bad.Host+"/app:1: ") {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestForeignLayer(t *testing.T) {
	t.Parallel()
	elsewhere := imagetest.Serve(t, http.NotFoundHandler())
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	c, _ := newClient(t, Options{})
	b := layer.Descriptor{Digest: someDigest, Size: 1, URLs: []string{elsewhere.URL + "/layer"}}
	_, err := c.OpenBlob(context.Background(), s.Host+"/app:1", b)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "fetching it from another server is not supported") {
		t.Errorf("error %v", err)
	}
	if r := elsewhere.Requests(); len(r) != 0 {
		t.Errorf("another server was sent %q", r)
	}
}

func TestMirrors(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "a")
	origin, mirror := imagetest.Serve(t, registrytest.Handler(t, server.Options{})), imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	plain, _ := newClient(t, Options{})
	mustPush(t, plain, origin.Host+"/app:1", img)
	mustPush(t, plain, mirror.Host+"/proxy/hub/app:1", img)
	mustPush(t, plain, origin.Host+"/app:2", img)

	c, _ := newClient(t, Options{Mirrors: map[string][]string{origin.Host: {closedPort(t), "http://" + mirror.Host + "/proxy/hub"}}})
	origin.Requests()
	mirror.Requests()
	wantPulled(t, c, origin.Host+"/app:1", img)
	if r := origin.Requests(); len(r) != 0 {
		t.Errorf("the origin was sent %q", r)
	}
	if r := mirror.Requests(); len(r) != 3 {
		t.Errorf("the mirror was sent %q, want 3 requests", r)
	}
	wantPulled(t, c, origin.Host+"/app:2", img) // the mirror does not have it
	_, err := c.Resolve(context.Background(), origin.Host+"/app:3", layer.Platform{})
	wantError(t, err, "pull HOST/app:3: not found in registry HOST (404 Not Found; MANIFEST_UNKNOWN: repository app has no manifest 3) (mirrors: "+
		"not found in registry "+mirror.Host+" (404 Not Found; MANIFEST_UNKNOWN: repository proxy/hub/app has no manifest 3))", origin.Host, c)
	mirror.Requests()
	mustPush(t, c, origin.Host+"/app:4", img)
	if r := mirror.Requests(); len(r) != 0 {
		t.Errorf("a push sent %q to the mirror", r)
	}
}

// If the answer to HEAD has no digest, the manifest is fetched.
func TestResolveDigestWithoutHeader(t *testing.T) {
	t.Parallel()
	h := registrytest.Handler(t, server.Options{})
	s := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead {
			h.ServeHTTP(w, r)
		}
	}))
	c, waits := newClient(t, Options{})
	img := imagetest.New(t, "amd64", false, "a")
	mustPush(t, c, s.Host+"/app:1", img)
	d, err := c.ResolveDigest(context.Background(), s.Host+"/app:1")
	if err != nil || d != img.Digest || len(*waits) != 0 {
		t.Errorf("%s, %v, want %s; waits %v", d, err, img.Digest, *waits)
	}
}
