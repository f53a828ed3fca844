package images

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
)

// TestSaveLoad checks that an image is the same after a round trip through each format,
// with its names and layers.
func TestSaveLoad(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"docker", "oci"} {
		for _, docker := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, docker types %v", format, docker), func(t *testing.T) {
				t.Parallel()
				from, to := newManager(t), newManager(t)
				img := imagetest.New(t, "amd64", docker, "one", "two")
				add(t, from, img, hub+"app:1", "registry.example/app:2")
				file := filepath.Join(t.TempDir(), "app.tar")
				if err := from.Save(t.Context(), []string{"app:1", "registry.example/app:2"}, format, file, nil); err != nil {
					t.Fatal(err)
				}
				loaded, err := to.Load(t.Context(), file, layer.Platform{})
				if err != nil {
					t.Fatal(err)
				}
				if len(loaded) != 1 || loaded[0].Image.Digest != img.Digest || !slices.Equal(loaded[0].Names, []string{hub + "app:1", "registry.example/app:2"}) {
					t.Errorf("loaded %+v, want %s", loaded, img.Digest)
				}
				wantNames(t, to, hub+"app:1", "registry.example/app:2")
				for _, b := range img.Layers {
					wantBlob(t, to, b.Digest, img.Blobs[b.Digest])
					if known := to.Store.Layers(b.DiffID); len(known) != 1 || known[0].Digest != b.Digest {
						t.Errorf("layers recorded for %s: %v", b.DiffID, known)
					}
				}
			})
		}
	}
}

func wantBlob(t *testing.T, m *Manager, d layer.Digest, want []byte) {
	t.Helper()
	r, err := m.Store.OpenVerified(d)
	if err != nil {
		t.Errorf("blob %s: %v", d, err)
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("blob %s: %d bytes, %v, want %d", d, len(got), err, len(want))
	}
}

// TestSaveStdout checks that "-" is standard output, and that the image found by its ID
// has a name only if the store has one.
func TestSaveStdout(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	img := imagetest.New(t, "amd64", false, "one")
	add(t, m, img)
	var out bytes.Buffer
	if err := m.Save(t.Context(), []string{img.Digest.Hex()[:12]}, "docker", "-", &out); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "app.tar")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	to := newManager(t)
	if _, err := to.Load(t.Context(), file, layer.Platform{}); err != nil {
		t.Fatal(err)
	}
	wantNames(t, to, "<none>@"+string(img.Digest))
}

// TestSaveIndex checks that loading an index takes the image for a platform, and that
// LoadAll takes the index, from archives of both formats.
func TestSaveIndex(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	index := addBoth(t, m, hub+"app:latest")
	for _, format := range []string{"docker", "oci"} {
		file := filepath.Join(t.TempDir(), "app.tar")
		if err := m.Save(t.Context(), []string{"app"}, format, file, nil); err != nil {
			t.Fatal(err)
		}
		for i, arch := range []string{"amd64", "arm64"} {
			to := newManager(t)
			loaded, err := to.Load(t.Context(), file, layer.Platform{OS: "linux", Architecture: arch})
			if err != nil || len(loaded) != 1 || loaded[0].Image.Digest != index.Images[i].Digest || loaded[0].Index != nil {
				t.Errorf("%s, %s: %+v, %v, want %s", format, arch, loaded, err, index.Images[i].Digest)
			}
		}
		to := newManager(t)
		loaded, err := to.LoadAll(t.Context(), file)
		if err != nil || len(loaded) != 1 || loaded[0].Digest() != index.Digest {
			t.Errorf("%s, all platforms: %+v, %v, want %s", format, loaded, err, index.Digest)
		}
		stored, err := to.Lookup("app")
		if err != nil || stored.Index == nil || stored.Digest() != index.Digest || len(stored.Index.Images) != 2 {
			t.Errorf("%s, all platforms: the store has %+v, %v", format, stored, err)
		}
		again := filepath.Join(t.TempDir(), "again.tar") // all layers are in the store
		if err := to.Save(t.Context(), []string{"app"}, format, again, nil); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// TestLoadAllSingle checks that LoadAll takes images of one platform as Load does.
func TestLoadAllSingle(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	img := imagetest.New(t, "arm64", false, "one")
	add(t, m, img, hub+"one:latest", hub+"also:1")
	file := filepath.Join(t.TempDir(), "app.tar")
	if err := m.Save(t.Context(), []string{"one", "also:1"}, "docker", file, nil); err != nil {
		t.Fatal(err)
	}
	to := newManager(t)
	loaded, err := to.LoadAll(t.Context(), file)
	if err != nil || len(loaded) != 1 || loaded[0].Digest() != img.Digest || loaded[0].Index != nil || len(loaded[0].Names) != 2 {
		t.Errorf("%+v, %v", loaded, err)
	}
	wantNames(t, to, hub+"also:1", hub+"one:latest")
}

// TestSaveDifferent checks that names of different images are refused, also if the first
// image has no name.
func TestSaveDifferent(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	one, two := imagetest.New(t, "amd64", false, "one"), imagetest.New(t, "amd64", false, "two")
	add(t, m, one)
	add(t, m, two, hub+"two:latest")
	id := one.Digest.Hex()[:12]
	for _, refs := range [][]string{{id, "two"}, {"two", id}} {
		var out bytes.Buffer
		err := m.Save(t.Context(), refs, "oci", "-", &out)
		wantError(t, err, refs[0]+" and "+refs[1]+" are different images: save each to a file of its own")
	}
	wantError(t, m.Save(t.Context(), []string{"two", "none"}, "oci", "-", io.Discard), "image none is not in the store")
}

// TestLoadErrors checks that an error names the file and its problem.
func TestLoadErrors(t *testing.T) {
	t.Parallel()
	m, dir := newManager(t), t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("FROM scratch\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(path string) error {
		_, err := m.Load(t.Context(), path, layer.Platform{})
		return err
	}
	wantError(t, load(text), "text")
	if err := load(empty); !errors.Is(err, ErrNotArchive) {
		t.Errorf("empty file: %v", err)
	}
	wantError(t, load(filepath.Join(dir, "missing")), "missing", "no such file")
	wantError(t, load(dir), dir, "index.json")
	wantNames(t, m)
}

// TestLoadDamaged checks that a damaged layer is an error and leaves no image.
func TestLoadDamaged(t *testing.T) {
	t.Parallel()
	from, to := newManager(t), newManager(t)
	img := imagetest.New(t, "amd64", false, "one")
	add(t, from, img, hub+"app:latest")
	var out bytes.Buffer
	if err := from.Save(t.Context(), []string{"app"}, "oci", "-", &out); err != nil {
		t.Fatal(err)
	}
	blob := img.Blobs[img.Layers[0].Digest]
	damaged := bytes.Clone(blob)
	damaged[len(damaged)-1] ^= 1
	file := filepath.Join(t.TempDir(), "app.tar")
	if err := os.WriteFile(file, bytes.Replace(out.Bytes(), blob, damaged, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := to.Load(t.Context(), file, layer.Platform{})
	wantError(t, err, file, string(img.Layers[0].Digest))
	wantNames(t, to)
}

// TestLoadOtherPlatforms checks that loading takes the best of several images of one
// name, and that it is an error if none of them runs on the platform.
func TestLoadOtherPlatforms(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	index := addBoth(t, m, hub+"app:latest")
	file := filepath.Join(t.TempDir(), "app.tar")
	if err := m.Save(t.Context(), []string{"app"}, "oci", file, nil); err != nil {
		t.Fatal(err)
	}
	to := newManager(t)
	_, err := to.Load(t.Context(), file, layer.Platform{OS: "linux", Architecture: "s390x"})
	wantError(t, err, "loading "+file+": app:latest has no image for linux/s390x, but for linux/amd64, linux/arm64: choose one with --platform")
	wantNames(t, to)
	loaded, err := to.Load(t.Context(), file, layer.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"})
	if err != nil || len(loaded) != 1 || loaded[0].Image.Digest != index.Images[0].Digest {
		t.Errorf("%+v, %v, want the image for amd64", loaded, err)
	}
	single := imagetest.New(t, "s390x", false, "one")
	add(t, m, single, hub+"single:latest")
	if err := m.Save(t.Context(), []string{"single"}, "docker", file, nil); err != nil {
		t.Fatal(err)
	}
	if loaded, err := to.Load(t.Context(), file, amd64); err != nil || len(loaded) != 1 || loaded[0].Image.Digest != single.Digest {
		t.Errorf("a single image for another platform: %+v, %v", loaded, err)
	}
}
