package layout_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/layer/layout"
)

// twoPlatforms returns an image index for two platforms and a function that opens the
// layers of both images.
func twoPlatforms(t *testing.T, annotations map[string]string) (layer.Index, layout.Open) {
	t.Helper()
	amd, arm := imagetest.New(t, "amd64", false, "shared", "amd"), imagetest.New(t, "arm64", false, "shared", "arm")
	index, err := layer.NewIndex([]layer.Image{amd.Image, arm.Image}, annotations, false)
	if err != nil {
		t.Fatal(err)
	}
	return index, func(d layer.Descriptor) (io.ReadCloser, error) {
		if _, ok := amd.Blobs[d.Digest]; ok {
			return amd.Open(d)
		}
		return arm.Open(d)
	}
}

// writeIndex writes an index as a tar file and as a directory, and returns the paths.
func writeIndex(t *testing.T, refs []string, index layer.Index, open layout.Open) map[string]string {
	t.Helper()
	dir := t.TempDir()
	paths := map[string]string{"archive": filepath.Join(dir, "index.tar"), "directory": filepath.Join(dir, "layout")}
	var b bytes.Buffer
	if err := layout.WriteOCIIndex(&b, refs, index, open); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(paths["archive"], b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := layout.WriteOCIIndexDir(paths["directory"], refs, index, open); err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestIndexRoundTrip(t *testing.T) {
	t.Parallel()
	index, open := twoPlatforms(t, map[string]string{"org.example.key": "value"})
	for form, path := range writeIndex(t, []string{"docker.io/library/app:1"}, index, open) {
		a, err := layout.ReadOCI(path)
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		defer a.Close()
		first, got, err := a.Lookup("1", "")
		if err != nil {
			t.Fatalf("%s: Lookup: %v", form, err)
		}
		if got == nil || got.Digest != index.Digest || !bytes.Equal(got.Raw, index.Raw) {
			t.Fatalf("%s: Lookup returned index %+v, want digest %s", form, got, index.Digest)
		}
		if len(got.Images) != 2 || got.Images[0].Digest != index.Images[0].Digest || got.Images[1].Digest != index.Images[1].Digest {
			t.Errorf("%s: the index has images %v in another order or number", form, got.Images)
		}
		if want, ok := index.ForPlatform(layer.HostPlatform()); ok && first.Digest != want.Digest {
			t.Errorf("%s: the default image is %s, want this machine's %s", form, first.Digest, want.Digest)
		}
		own, err := got.OwnAnnotations()
		if err != nil || own["org.example.key"] != "value" {
			t.Errorf("%s: annotations %v, %v", form, own, err)
		}
		for _, img := range got.Images {
			for _, l := range img.Layers {
				r, err := a.Open(l)
				if err != nil {
					t.Fatalf("%s: opening %s: %v", form, l.Digest, err)
				}
				content, err := io.ReadAll(r)
				if cerr := r.Close(); err != nil || cerr != nil || layer.FromBytes(content) != l.Digest {
					t.Errorf("%s: layer %s: read %v, close %v, digest %s", form, l.Digest, err, cerr, layer.FromBytes(content))
				}
			}
		}
	}
}

// A docker archive of an index is an OCI layout of it, with the default image in
// manifest.json.
func TestDockerIndex(t *testing.T) {
	t.Parallel()
	index, open := twoPlatforms(t, nil)
	path := filepath.Join(t.TempDir(), "a.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := layout.WriteDockerIndex(f, []string{"docker.io/library/app:1"}, index, open); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	old, err := layout.ReadDocker(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if len(old.Images) != 1 || old.Images[0].Image.Digest != index.Default().Digest || !slices.Equal(old.Images[0].Refs, []string{"docker.io/library/app:1"}) {
		t.Errorf("manifest.json has %+v, want %s", old.Images, index.Default().Digest)
	}
	a, err := layout.ReadOCI(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	entries, err := a.Entries()
	if err != nil || len(entries) != 1 || entries[0].Index == nil || entries[0].Index.Digest != index.Digest || !slices.Equal(entries[0].Refs, []string{"docker.io/library/app:1"}) {
		t.Errorf("the layout has %+v, %v, want %s", entries, err, index.Digest)
	}
}

// An index keeps its attestations, which are no images for a platform.
func TestEntriesWithAttestations(t *testing.T) {
	t.Parallel()
	img, proof := imagetest.New(t, "amd64", false, "one"), imagetest.New(t, "amd64", false, "proof")
	proof.PlatformOverride = &layer.Platform{OS: "unknown", Architecture: "unknown"}
	index, err := layer.NewIndex([]layer.Image{img.Image, proof.Image}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	open := func(d layer.Descriptor) (io.ReadCloser, error) {
		if _, ok := img.Blobs[d.Digest]; ok {
			return img.Open(d)
		}
		return proof.Open(d)
	}
	for _, ref := range []string{"docker.io/library/app:1", "docker.io/library/app:2"} {
		if err := layout.WriteOCIIndexDir(dir, []string{ref}, index, open); err != nil {
			t.Fatal(err)
		}
	}
	a, err := layout.ReadOCI(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if len(a.Images) != 1 {
		t.Errorf("%d images, want 1", len(a.Images))
	}
	entries, err := a.Entries()
	if err != nil || len(entries) != 1 || len(entries[0].Refs) != 2 || len(entries[0].Index.Images) != 2 || entries[0].Image.Digest != img.Digest {
		t.Errorf("%+v, %v", entries, err)
	}
}

// The two images share a layer, which is stored once.
func TestIndexStoresSharedLayersOnce(t *testing.T) {
	t.Parallel()
	index, open := twoPlatforms(t, nil)
	shared := index.Images[0].Layers[0].Digest
	if shared != index.Images[1].Layers[0].Digest {
		t.Fatal("the images share no layer: the test shows nothing")
	}
	opened := map[layer.Digest]int{}
	paths := writeIndex(t, nil, index, func(d layer.Descriptor) (io.ReadCloser, error) {
		opened[d.Digest]++
		return open(d)
	})
	for d, n := range opened {
		if n != 2 { // once for each of the two forms
			t.Errorf("layer %s was read %d times for two outputs", d, n)
		}
	}
	blobs, err := os.ReadDir(filepath.Join(paths["directory"], "blobs/sha256"))
	if err != nil {
		t.Fatal(err)
	}
	if len(blobs) != 1+2*2+3 { // index, manifests and configs, three layers
		t.Errorf("the layout has %d blobs, want 8", len(blobs))
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "layout")
	one, two := imagetest.New(t, "amd64", false, "one"), imagetest.New(t, "amd64", false, "two")
	for ref, img := range map[string]imagetest.Image{"docker.io/library/app:1": one, "docker.io/library/app:2": two} {
		if err := layout.WriteOCIDir(dir, []string{ref}, img.Image, img.Open); err != nil {
			t.Fatal(err)
		}
	}
	index, open := twoPlatforms(t, nil)
	if err := layout.WriteOCIIndexDir(dir, []string{"localhost:5000/both:latest"}, index, open); err != nil {
		t.Fatal(err)
	}
	a, err := layout.ReadOCI(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	tests := []struct {
		name, tag string
		digest    layer.Digest
		want      layer.Digest // of the image
		index     bool
		err       string
	}{
		{name: "tag", tag: "1", want: one.Digest},
		{name: "other tag", tag: "2", want: two.Digest},
		{name: "full name", tag: "docker.io/library/app:2", want: two.Digest},
		{name: "digest", digest: one.Digest, want: one.Digest},
		{name: "tag and its digest", tag: "1", digest: one.Digest, want: one.Digest},
		{name: "index", tag: "latest", want: index.Default().Digest, index: true},
		{name: "index by digest", digest: index.Digest, want: index.Default().Digest, index: true},
		{name: "image within the index", digest: index.Images[1].Digest, want: index.Images[1].Digest},
		{name: "nothing named", err: "contains 3 images"},
		{name: "unknown tag", tag: "3", err: "3"},
		{name: "unknown digest", digest: layer.FromBytes([]byte("x")), err: "no such image"},
		{name: "invalid digest", digest: "sha256:12", err: "sha256:12"},
		{name: "a config's digest", digest: one.ConfigDigest, err: one.ConfigDigest.Hex()[:8]},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			img, index, err := a.Lookup(test.tag, test.digest)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("Lookup returned %s, error %v, want an error with %q", img.Digest, err, test.err)
				}
				return
			}
			if err != nil || img.Digest != test.want || (index != nil) != test.index {
				t.Errorf("Lookup returned %s, index %v, %v; want %s, index %v", img.Digest, index != nil, err, test.want, test.index)
			}
		})
	}
}

// A docker archive of before version 25 has manifest.json and no index.
func TestLookupInDockerArchive(t *testing.T) {
	t.Parallel()
	one, two := imagetest.New(t, "amd64", true, "one"), imagetest.New(t, "amd64", true, "two")
	path := oldDockerArchive(t, map[string]imagetest.Image{"app:1": one, "app:2": two})
	a, err := layout.ReadDocker(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for tag, want := range map[string]imagetest.Image{"1": one, "docker.io/library/app:2": two} {
		img, index, err := a.Lookup(tag, "")
		if err != nil || index != nil || img.ConfigDigest != want.ConfigDigest {
			t.Errorf("Lookup(%q) returned config %s, index %v, %v; want %s", tag, img.ConfigDigest, index, err, want.ConfigDigest)
		}
	}
	for tag, message := range map[string]string{"3": "no such image", "": "contains 2 images"} {
		if img, _, err := a.Lookup(tag, ""); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("Lookup(%q) returned %s, %v; want an error with %q", tag, img.Digest, err, message)
		}
	}
}

// oldDockerArchive writes images as "docker save" did before it wrote OCI layouts too.
func oldDockerArchive(t *testing.T, images map[string]imagetest.Image) string {
	t.Helper()
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	files := map[string][]byte{}
	for tag, img := range images {
		e := entry{Config: img.ConfigDigest.Hex() + ".json", RepoTags: []string{tag}}
		files[e.Config] = img.Config
		for _, l := range img.Layers {
			name := l.Digest.Hex() + "/layer.tar"
			files[name] = img.Blobs[l.Digest]
			e.Layers = append(e.Layers, name)
		}
		manifest = append(manifest, e)
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	files["manifest.json"] = raw
	return writeTar(t, files)
}

func TestFindTakesTheOnlyEntry(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "one")
	dir := filepath.Join(t.TempDir(), "layout")
	if err := layout.WriteOCIDir(dir, []string{"docker.io/library/app:1"}, img.Image, img.Open); err != nil {
		t.Fatal(err)
	}
	a, err := layout.ReadOCI(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	found, err := a.Find("latest", "")
	if err != nil || len(found) != 1 || found[0].Image.Digest != img.Digest {
		t.Errorf("Find(latest) returned %v, %v; want the only image", found, err)
	}
	other := imagetest.New(t, "amd64", false, "two")
	if err := layout.WriteOCIDir(dir, []string{"docker.io/library/app:2"}, other.Image, other.Open); err != nil {
		t.Fatal(err)
	}
	if found, err := a.Find("latest", ""); err == nil {
		t.Errorf("Find(latest) returned %v among two images", found)
	}
}

// Adding an image to a layout keeps the others, except under the names it is given.
func TestDirectoryKeepsOtherImages(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "layout")
	add := func(content string, refs ...string) layer.Digest {
		t.Helper()
		img := imagetest.New(t, "amd64", false, content)
		if err := layout.WriteOCIDir(dir, refs, img.Image, img.Open); err != nil {
			t.Fatal(err)
		}
		return img.Digest
	}
	names := func() (all []string) {
		t.Helper()
		a, err := layout.ReadOCI(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		for _, n := range a.Images {
			all = append(all, strings.Join(n.Refs, ",")+"="+n.Image.Digest.Hex()[:12])
		}
		slices.Sort(all)
		return all
	}
	first, second := add("one", "docker.io/library/a:1"), add("two", "docker.io/library/b:1", "docker.io/library/b:2")
	want := []string{"docker.io/library/a:1=" + first.Hex()[:12], "docker.io/library/b:1,docker.io/library/b:2=" + second.Hex()[:12]}
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("the layout has %q, want %q", got, want)
	}
	third := add("three", "docker.io/library/b:1")
	want = []string{"docker.io/library/a:1=" + first.Hex()[:12], "docker.io/library/b:1=" + third.Hex()[:12], "docker.io/library/b:2=" + second.Hex()[:12]}
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("after a tag moved the layout has %q, want %q", got, want)
	}
}

// A layer whose bytes are not those of its digest does not get into a layout.
func TestWritersVerifyLayers(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "one")
	corrupt := func(d layer.Descriptor) (io.ReadCloser, error) {
		b := bytes.Clone(img.Blobs[d.Digest])
		b[len(b)-1] ^= 1
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	short := func(d layer.Descriptor) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(img.Blobs[d.Digest][1:])), nil
	}
	dir := filepath.Join(t.TempDir(), "layout")
	for name, open := range map[string]layout.Open{"corrupt": corrupt, "short": short} {
		for form, err := range map[string]error{
			"OCI archive":    layout.WriteOCI(io.Discard, nil, img.Image, open),
			"docker archive": layout.WriteDocker(io.Discard, nil, img.Image, open),
			"directory":      layout.WriteOCIDir(dir, nil, img.Image, open),
		} {
			if err == nil || !strings.Contains(err.Error(), img.Layers[0].Digest.Hex()) {
				t.Errorf("%s layer in %s: error %v, want one that names the layer", name, form, err)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "blobs/sha256", img.Layers[0].Digest.Hex())); !os.IsNotExist(err) {
			t.Errorf("%s layer: the directory has its blob (%v)", name, err)
		}
	}
}

func TestWritersRefuseInvalidReferences(t *testing.T) {
	t.Parallel()
	img := imagetest.New(t, "amd64", false, "one")
	refs := []string{"docker.io/library/UPPER:1"}
	for form, err := range map[string]error{
		"OCI archive":    layout.WriteOCI(io.Discard, refs, img.Image, img.Open),
		"docker archive": layout.WriteDocker(io.Discard, refs, img.Image, img.Open),
		"directory":      layout.WriteOCIDir(filepath.Join(t.TempDir(), "x"), refs, img.Image, img.Open),
	} {
		if err == nil || !strings.Contains(err.Error(), "UPPER") {
			t.Errorf("%s: error %v, want one that names the reference", form, err)
		}
	}
}
