package images

import (
	"errors"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/server"
)

// serve starts an empty registry.
func serve(t *testing.T, o server.Options) *imagetest.Server {
	t.Helper()
	o.NoSync = true
	h, err := server.Handler(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return imagetest.Serve(t, h)
}

var amd64 = layer.Platform{OS: "linux", Architecture: "amd64"}

// TestPushPull checks that an image is the same after a push and a pull, with its layers.
func TestPushPull(t *testing.T) {
	t.Parallel()
	from, to, r := newManager(t), newManager(t), serve(t, server.Options{})
	img := imagetest.New(t, "amd64", false, "one", "two")
	ref := r.Host + "/team/app:v1"
	add(t, from, img, ref)
	if d, err := from.Push(t.Context(), ref); err != nil || d != img.Digest {
		t.Fatalf("pushed %s, %v, want %s", d, err, img.Digest)
	}
	name, d, err := to.Pull(t.Context(), ref, amd64)
	if err != nil || name != ref || d != img.Digest {
		t.Fatalf("pulled %s as %s, %v, want %s", d, name, err, img.Digest)
	}
	wantNames(t, to, ref)
	for _, b := range img.Layers {
		wantBlob(t, to, b.Digest, img.Blobs[b.Digest])
	}
	if _, err := from.PushAs(t.Context(), ref, r.Host+"/other"); err != nil {
		t.Fatal(err)
	}
	if name, _, err := to.Pull(t.Context(), r.Host+"/other", amd64); err != nil || name != r.Host+"/other:latest" {
		t.Errorf("pulled %s, %v", name, err)
	}
	r.Requests()
	if _, _, err := to.Pull(t.Context(), r.Host+"/other", amd64); err != nil || len(r.Requests()) != 1 {
		t.Errorf("a pull of what the store has takes more than one request: %v", err)
	}
}

// TestPushLazily checks that layers that the store does not have are pushed from the
// registry that has them.
func TestPushLazily(t *testing.T) {
	t.Parallel()
	from, m, r, second := newManager(t), newManager(t), serve(t, server.Options{}), serve(t, server.Options{})
	img := imagetest.New(t, "amd64", false, "one")
	ref := r.Host + "/app:v1"
	add(t, from, img, ref)
	if _, err := from.Push(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if err := m.Store.Tag(ref, img.Image); err != nil { // without layers
		t.Fatal(err)
	}
	for _, as := range []string{r.Host + "/mounted:v1", second.Host + "/streamed:v1"} {
		if d, err := m.PushAs(t.Context(), ref, as); err != nil || d != img.Digest {
			t.Errorf("%s: %s, %v", as, d, err)
		}
		if _, _, err := newManager(t).Pull(t.Context(), as, amd64); err != nil {
			t.Errorf("%s: %v", as, err)
		}
	}
}

// TestPushIndex checks that an index is pushed with all its images, and pulled by
// platform.
func TestPushIndex(t *testing.T) {
	t.Parallel()
	m, r := newManager(t), serve(t, server.Options{})
	ref := r.Host + "/app:v1"
	index := addBoth(t, m, ref)
	if d, err := m.Push(t.Context(), ref); err != nil || d != index.Digest {
		t.Fatalf("pushed %s, %v, want %s", d, err, index.Digest)
	}
	for _, img := range index.Images {
		p, err := img.Platform()
		if err != nil {
			t.Fatal(err)
		}
		to := newManager(t)
		if _, d, err := to.Pull(t.Context(), ref, p); err != nil || d != img.Digest {
			t.Errorf("%s: pulled %s, %v, want %s", p, d, err, img.Digest)
		}
		found, err := to.Manifest(t.Context(), "docker://"+ref)
		if err != nil || layer.FromBytes(found.Raw) != index.Digest || found.MediaType != layer.MediaTypeIndex {
			t.Errorf("manifest of the registry: %+v, %v", found, err)
		}
		found, err = to.Manifest(t.Context(), ref)
		if err != nil || layer.FromBytes(found.Raw) != img.Digest || found.Ref != ref {
			t.Errorf("manifest of the store: %+v, %v", found, err)
		}
	}
	to := newManager(t)
	_, _, err := to.Pull(t.Context(), ref, layer.Platform{OS: "linux", Architecture: "s390x"})
	wantError(t, err, r.Host+"/app:v1", "linux/s390x")
	wantNames(t, to)
}

// TestCreateIndexFromRegistry checks that an index of images of a registry fetches no
// layers and can be pushed.
func TestCreateIndexFromRegistry(t *testing.T) {
	t.Parallel()
	from, m, r := newManager(t), newManager(t), serve(t, server.Options{})
	var refs []string
	for _, arch := range []string{"amd64", "arm64"} {
		ref := r.Host + "/app:" + arch
		add(t, from, imagetest.New(t, arch, false, arch), ref)
		if _, err := from.Push(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	list := r.Host + "/app:list"
	made, err := m.CreateIndex(t.Context(), list, IndexOptions{Images: refs, Annotations: map[string]string{"a": "b"}})
	if err != nil || len(made.Index.Images) != 2 {
		t.Fatalf("%+v, %v", made, err)
	}
	for _, img := range made.Index.Images {
		if _, ok := m.Store.StatBlob(img.Layers[0].Digest); ok {
			t.Error("a layer was fetched")
		}
	}
	if d, err := m.Push(t.Context(), list); err != nil || d != made.Index.Digest {
		t.Errorf("pushed %s, %v", d, err)
	}
	_, err = m.CreateIndex(t.Context(), list, IndexOptions{Images: refs})
	wantError(t, err, "app:list is an index already: --amend adds to it, cairn rm removes it")
	_, err = m.CreateIndex(t.Context(), refs[0], IndexOptions{Images: []string{r.Host + "/none"}})
	wantError(t, err, r.Host+"/none")
}

// TestPushErrors checks the errors of refused pushes and of missing images.
func TestPushErrors(t *testing.T) {
	t.Parallel()
	m, r := newManager(t), serve(t, server.Options{Auth: func(_, _ string, write bool) bool { return !write }})
	ref := r.Host + "/app:v1"
	add(t, m, imagetest.New(t, "amd64", false, "one"), ref)
	if _, err := m.Push(t.Context(), ref); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("refused: %v", err)
	}
	_, err := m.Push(t.Context(), "none")
	wantError(t, err, "image none is not in the store")
	_, err = m.PushAs(t.Context(), ref, "A")
	wantError(t, err, `"A"`)
	_, _, err = m.Pull(t.Context(), r.Host+"/none", amd64)
	if !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	wantNames(t, m, ref)
}
