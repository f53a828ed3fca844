package images

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/cairn-build/cairn/registry/registriesconf"
)

const hub = "docker.io/library/"

// managerWith returns a manager of an empty store. Its client knows no credentials.
func managerWith(t *testing.T, o registry.Options) *Manager {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	o.Credentials = auth.Keychain{DockerDir: t.TempDir()}
	c, err := registry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &Manager{Store: s, Registry: c}
}

// add puts an image with its layers into the store. Without names it is untagged.
func add(t *testing.T, m *Manager, img imagetest.Image, names ...string) {
	t.Helper()
	addLayers(t, m, img)
	if len(names) == 0 {
		names = []string{export.Untagged(img.Digest)}
	}
	for _, name := range names {
		if err := m.Store.Tag(name, img.Image); err != nil {
			t.Fatal(err)
		}
	}
}

func addLayers(t *testing.T, m *Manager, img imagetest.Image) {
	t.Helper()
	for _, b := range img.Layers {
		r, err := img.Open(b)
		if err == nil {
			err = errors.Join(m.Store.PutBlob(b.Digest, b.Size, r), m.Store.AddLayer(b))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// addBoth puts an index of two platforms, amd64 and arm64, into the store.
func addBoth(t *testing.T, m *Manager, name string) layer.Index {
	t.Helper()
	amd, arm := imagetest.New(t, "amd64", false, "shared", name+" for amd"), imagetest.New(t, "arm64", false, "shared", name+" for arm")
	addLayers(t, m, amd)
	addLayers(t, m, arm)
	index, err := layer.NewIndex([]layer.Image{amd.Image, arm.Image}, nil, false)
	if err == nil {
		err = m.Store.TagIndex(name, index)
	}
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", parts)
		return
	}
	rest := err.Error()
	for _, part := range parts {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Errorf("error %q, want %q in it", err, part)
			return
		}
		rest = after
	}
}

// wantNames checks the names of all images in the store.
func wantNames(t *testing.T, m *Manager, want ...string) {
	t.Helper()
	all, err := m.Store.Images()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range all {
		got = append(got, i.Ref)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the store has %q, want %q", got, want)
	}
}

// TestLookup checks the ways to name an image of the store.
func TestLookupForms(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	one, two := imagetest.New(t, "amd64", false, "one"), imagetest.New(t, "amd64", false, "two")
	add(t, m, one, hub+"app:latest", "registry.example/team/app:v1")
	add(t, m, two)
	index := addBoth(t, m, hub+"index:latest")
	for ref, want := range map[string]layer.Digest{
		"app":                          one.Digest,
		"app:latest":                   one.Digest,
		"docker.io/library/app":        one.Digest,
		"registry.example/team/app:v1": one.Digest,
		string(one.Digest):             one.Digest,
		one.Digest.Hex()[:6]:           one.Digest,
		one.ConfigDigest.Hex():         one.Digest,
		string(two.ConfigDigest)[:20]:  two.Digest,
		two.Digest.Hex()[:12]:          two.Digest,
		"index":                        index.Digest,
		index.Digest.Hex()[:12]:        index.Digest,
	} {
		if got, err := m.Lookup(ref); err != nil || got.Digest() != want {
			t.Errorf("%s: %s, %v, want %s", ref, got.Digest(), err, want)
		}
	}
	if got, err := m.Lookup("index"); err != nil || got.Index == nil || len(got.Index.Images) != 2 {
		t.Errorf("index: %+v, %v", got.Index, err)
	}
	for ref, want := range map[string][]string{
		"missing":                        {"image missing is not in the store", "cairn images", "cairn pull missing"},
		"app:v2":                         {"image app:v2 is not in the store", "cairn pull app:v2"},
		one.Digest.Hex()[:5]:             {"is not in the store"},
		strings.Repeat("0", 64):          {strings.Repeat("0", 64)},
		"Upper":                          {`"Upper"`},
		"sha256:" + two.Digest.Hex()[:5]: {two.Digest.Hex()[:5]},
	} {
		if got, err := m.Lookup(ref); err == nil {
			t.Errorf("%s: found %s", ref, got.Ref)
		} else {
			wantError(t, err, want...)
		}
	}
}

// TestLookupAmbiguous checks that the ID of two images with different manifests is an
// error, but a digest is not, and that a name takes precedence over an ID.
func TestLookupAmbiguous(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	img := imagetest.New(t, "amd64", false, "one")
	add(t, m, img, hub+"app:1")
	annotated, err := layer.NewImage(img.Config, img.Layers, map[string]string{"a": "b"}, false)
	if err != nil {
		t.Fatal(err)
	}
	add(t, m, imagetest.Image{Image: annotated, Blobs: img.Blobs}, hub+"app:2")
	id := img.ConfigDigest.Hex()[:12]
	_, err = m.Lookup(id)
	wantError(t, err, id+" is the ID of several images, or its beginning: use a longer one")
	if got, err := m.Lookup(string(annotated.Digest)); err != nil || got.Ref != hub+"app:2" {
		t.Errorf("by digest: %s, %v", got.Ref, err)
	}
	wantError(t, m.Tag(id, "third"), "is the ID of several images")
	if _, err := m.Manifest(t.Context(), id); !errors.Is(err, errAmbiguous) {
		t.Errorf("manifest: %v", err)
	}
	other := imagetest.New(t, "arm64", false, "other")
	add(t, m, other, hub+id+":latest")
	if got, err := m.Lookup(id); err != nil || got.Digest() != other.Digest {
		t.Errorf("a name that looks like an ID: %s, %v", got.Ref, err)
	}
}

// shortNames returns the options of a client that searches registry.example too.
func shortNames(t *testing.T) registry.Options {
	t.Helper()
	file := filepath.Join(t.TempDir(), "registries.conf")
	text := "unqualified-search-registries = ['docker.io', 'registry.example']\nshort-name-mode = 'permissive'\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := registriesconf.Load([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	return registry.Options{Rules: rules, ShortNames: true}
}

// TestShortNames checks that a short name finds the image of another registry, in each
// command.
func TestShortNames(t *testing.T) {
	t.Parallel()
	m := managerWith(t, shortNames(t))
	img := imagetest.New(t, "amd64", false, "one")
	const full = "registry.example/app:latest"
	add(t, m, img, full)
	if got, ok, err := m.LookupName("app"); !ok || err != nil || got.Ref != full {
		t.Errorf("found %s, %v, %v", got.Ref, ok, err)
	}
	if _, ok, err := m.LookupName("none"); ok || err != nil {
		t.Errorf("none: %v, %v", ok, err)
	}
	if err := m.Tag("app", "registry.example/other"); err != nil {
		t.Error(err)
	}
	if names, err := m.Remove("app"); err != nil || !slices.Equal(names, []string{full}) {
		t.Errorf("removed %q, %v, want %s", names, err, full)
	}
	wantNames(t, m, "registry.example/other:latest")
}

// TestTag checks that a tag names an image or index again, and replaces the name of an
// untagged one.
func TestTagMoves(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	img := imagetest.New(t, "amd64", false, "one")
	add(t, m, img)
	index := addBoth(t, m, hub+"index:latest")
	for _, names := range [][2]string{{img.Digest.Hex()[:12], "app"}, {"app", "registry.example/app:v1"}, {"index", "second"}} {
		if err := m.Tag(names[0], names[1]); err != nil {
			t.Error(err)
		}
	}
	wantNames(t, m, hub+"app:latest", hub+"index:latest", hub+"second:latest", "registry.example/app:v1")
	if got, err := m.Lookup("second"); err != nil || got.Index == nil || got.Digest() != index.Digest {
		t.Errorf("second: %s, %v", got.Digest(), err)
	}
	if err := m.Tag("index", "app"); err != nil {
		t.Error(err)
	}
	if got, err := m.Lookup("app"); err != nil || got.Digest() != index.Digest {
		t.Errorf("a tag did not move: %s, %v", got.Digest(), err)
	}
	wantError(t, m.Tag("missing", "x"), "image missing is not in the store")
	wantError(t, m.Tag("app", "A"), "invalid tag", `"A"`)
}

// TestRemove checks which names go with a name and with an ID, and that the layers of
// images that stay survive a prune.
func TestRemove(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	one, two := imagetest.New(t, "amd64", false, "shared", "one"), imagetest.New(t, "amd64", false, "shared", "two")
	add(t, m, one, hub+"app:1", hub+"app:2", hub+"app:3")
	add(t, m, two, hub+"two:latest")
	if names, err := m.Remove("app:1"); err != nil || !slices.Equal(names, []string{hub + "app:1"}) {
		t.Errorf("removed %q, %v", names, err)
	}
	wantNames(t, m, hub+"app:2", hub+"app:3", hub+"two:latest")
	if names, err := m.Remove(one.ConfigDigest.Hex()[:12]); err != nil || !slices.Equal(names, []string{hub + "app:2", hub + "app:3"}) {
		t.Errorf("removed %q, %v", names, err)
	}
	wantNames(t, m, hub+"two:latest")
	_, err := m.Remove("app:1")
	wantError(t, err, "image app:1 is not in the store: cairn images lists the images that are")
	if strings.Contains(err.Error(), "pull") {
		t.Errorf("advice to pull an image that is to be removed: %v", err)
	}
	for _, b := range two.Layers {
		if _, ok := m.Store.StatBlob(b.Digest); !ok {
			t.Errorf("layer %s is missing", b.Digest)
		}
	}
}

// TestRemoveAmbiguous checks that an ID stands for all manifests with this config, and that
// an untagged image is removed by its digest.
func TestRemoveAmbiguous(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	img := imagetest.New(t, "amd64", false, "one")
	annotated, err := layer.NewImage(img.Config, img.Layers, map[string]string{"a": "b"}, false)
	if err != nil {
		t.Fatal(err)
	}
	add(t, m, img, hub+"app:1")
	add(t, m, imagetest.Image{Image: annotated, Blobs: img.Blobs}, hub+"app:2")
	untagged := imagetest.New(t, "arm64", false, "two")
	if names, err := m.Remove(img.ConfigDigest.Hex()[:12]); err != nil || len(names) != 2 {
		t.Errorf("removed %q, %v, want both", names, err)
	}
	wantNames(t, m)
	add(t, m, untagged)
	if names, err := m.Remove(string(untagged.Digest)); err != nil || !slices.Equal(names, []string{export.Untagged(untagged.Digest)}) {
		t.Errorf("removed %q, %v", names, err)
	}
}
