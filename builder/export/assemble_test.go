package export

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/layer/store"
)

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// snapshots returns a manager of layers in s, whose work ends before s is closed.
func snapshots(t *testing.T, s *store.Store) *snapshot.Manager {
	t.Helper()
	m := snapshot.New(context.Background(), snapshot.Options{Store: s, Isolation: sandbox.Isolation{SingleID: true}})
	t.Cleanup(func() { _ = m.Wait() })
	return m
}

// storeLayers puts the layers of an image into the store.
func storeLayers(t *testing.T, s *store.Store, img imagetest.Image) {
	t.Helper()
	for _, b := range img.Layers {
		r, err := img.Open(b)
		if err == nil {
			err = errors.Join(s.PutBlob(b.Digest, b.Size, r), s.AddLayer(b))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// built returns an image for linux/arch with a layer for each content. Its layers were
// made by steps of this build, the first at the time early and each other a second
// later.
func built(t *testing.T, s *store.Store, arch string, contents ...string) *Image {
	t.Helper()
	content := imagetest.New(t, arch, false, contents...)
	storeLayers(t, s, content)
	m := snapshots(t, s)
	img := &Image{Files: m.Empty()}
	img.Config.OS, img.Config.Architecture = "linux", arch
	img.Platform = layer.Platform{OS: "linux", Architecture: arch}.Normalized()
	for i, b := range content.Layers {
		img.Files = img.Files.With(m.Stored(b, early.Add(time.Duration(i)*time.Second)))
		img.Config.History = append(img.Config.History, step("COPY", false))
	}
	return img
}

// assembled returns the result of images in the compression of the options.
func assembled(t *testing.T, o Options, images ...*Image) Result {
	t.Helper()
	results, err := o.assemble(t.Context(), images, now)
	if err != nil {
		t.Fatal(err)
	}
	return results[o.Compression]
}

func unmarshal[T any](t *testing.T, raw []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return v
}

// TestConfig checks the config of an image: its layers, history and times.
func TestConfig(t *testing.T) {
	t.Parallel()
	img := built(t, openStore(t), "arm64", "one", "two")
	img.Config.Variant = "v8"
	img.Config.Config.Env = []string{"A=b"}
	r := assembled(t, Options{}, img)
	cfg := unmarshal[dockerspec.DockerOCIImage](t, r.Image.Config)
	if len(cfg.RootFS.DiffIDs) != 2 || cfg.RootFS.Type != "layers" {
		t.Fatalf("rootfs %v", cfg.RootFS)
	}
	for i, b := range r.Image.Layers {
		if layer.Digest(cfg.RootFS.DiffIDs[i]) != b.DiffID {
			t.Errorf("layer %d: diff ID %s, want %s", i, cfg.RootFS.DiffIDs[i], b.DiffID)
		}
	}
	wantTime(t, "the image", cfg.Created, early.Add(time.Second))
	wantTime(t, "first entry", cfg.History[0].Created, early)
	wantList(t, "environment", cfg.Config.Env, "A=b")
	if r.Image.ConfigDigest != layer.FromBytes(r.Image.Config) || r.Image.MediaType != layer.MediaTypeManifest {
		t.Errorf("config %s, type %s", r.Image.ConfigDigest, r.Image.MediaType)
	}
	if img.Config.History[0].Created != nil || len(img.Config.RootFS.DiffIDs) != 0 {
		t.Error("the config of the plan has changed")
	}
}

// TestFinish checks that a config is completed once, when the layers are known, although
// there are two compressions.
func TestFinish(t *testing.T) {
	t.Parallel()
	img := built(t, openStore(t), "amd64", "one", "two")
	calls := 0
	img.Finish = func(_ context.Context, config []byte, layers []layer.Descriptor) ([]byte, error) {
		calls++
		if len(layers) != 2 || unmarshal[dockerspec.DockerOCIImage](t, config).RootFS.DiffIDs == nil {
			t.Errorf("layers %v of %s", layers, config)
		}
		return append(config[:len(config)-1], `,"moby.buildkit.cacheinfo":"x"}`...), nil
	}
	o := Options{Outputs: []Output{{Type: "oci", Compression: &zstd}}}
	results, err := o.assemble(t.Context(), []*Image{img}, now)
	if err != nil {
		t.Fatal(err)
	}
	if calls != 1 || results[gzipped].Image.ConfigDigest != results[zstd].Image.ConfigDigest {
		t.Errorf("%d calls for configs %s and %s", calls, results[gzipped].Image.ConfigDigest, results[zstd].Image.ConfigDigest)
	}
	if got := unmarshal[map[string]any](t, results[zstd].Image.Config)["moby.buildkit.cacheinfo"]; got != "x" {
		t.Errorf("the config lacks the addition: %s", results[zstd].Image.Config)
	}
	refused := errors.New("refused")
	img.Finish = func(context.Context, []byte, []layer.Descriptor) ([]byte, error) { return nil, refused }
	if _, err := o.assemble(t.Context(), []*Image{img}, now); !errors.Is(err, refused) {
		t.Errorf("error %v, want that of Finish", err)
	}
}

// TestVariants checks that each compression has its own layers, and that the layers of a
// base image are recompressed only on demand.
func TestVariants(t *testing.T) {
	t.Parallel()
	plain := Compression{Options: compress.Options{Format: compress.Uncompressed}}
	forced := zstd
	forced.Force = true
	s := openStore(t)
	base := imagetest.New(t, "amd64", false, "base")
	storeLayers(t, s, base)
	img := built(t, s, "amd64", "step")
	img.Files = snapshots(t, s).StoredImage(base.Image, "").WithStack(img.Files)
	o := Options{Outputs: []Output{
		{Type: "oci", Compression: &zstd}, {Type: "oci", Compression: &plain}, {Type: "image", Compression: &forced},
	}}
	results, err := o.assemble(t.Context(), []*Image{img}, now)
	if err != nil {
		t.Fatal(err)
	}
	types := map[Compression][]string{
		gzipped: {layer.MediaTypeGzip, layer.MediaTypeGzip},
		zstd:    {layer.MediaTypeGzip, layer.MediaTypeZstd},
		plain:   {layer.MediaTypeGzip, layer.MediaTypeTar},
		forced:  {layer.MediaTypeZstd, layer.MediaTypeZstd},
	}
	for c, want := range types {
		var got []string
		for _, b := range results[c].Image.Layers {
			got = append(got, b.MediaType)
		}
		wantList(t, "layers", got, want...)
	}
	if layers := results[plain].Image.Layers; layers[1].Digest != layers[1].DiffID {
		t.Errorf("uncompressed layer %s has diff ID %s", layers[1].Digest, layers[1].DiffID)
	}
	for c := range types {
		if got, want := results[c].Image.ConfigDigest, results[gzipped].Image.ConfigDigest; got != want {
			t.Errorf("%v: config %s, want %s of all", c, got, want)
		}
	}
}

// TestAnnotatedDocuments checks to which document each annotation goes: manifest, descriptor of
// the manifest, index, and descriptor of the index.
func TestAnnotatedDocuments(t *testing.T) {
	t.Parallel()
	arm := platform(t, "linux/arm64")
	s := openStore(t)
	images := []*Image{built(t, s, "amd64", "one"), built(t, s, "arm64", "two")}
	r := assembled(t, Options{Annotations: []Annotation{
		{Name: "all", Value: "1"},
		{Name: "arm", Value: "2", Platform: &arm},
		{Name: "entry", Value: "3", Descriptor: true},
		{Name: "armentry", Value: "4", Descriptor: true, Platform: &arm},
		{Name: "index", Value: "5", Index: true},
		{Name: "outer", Value: "6", Index: true, Descriptor: true},
	}}, images...)
	if r.Index == nil || len(r.Index.Images) != 2 {
		t.Fatalf("no index of two images: %+v", r.Index)
	}
	document := func(raw []byte) map[string]string {
		return unmarshal[struct{ Annotations map[string]string }](t, raw).Annotations
	}
	index := unmarshal[ocispec.Index](t, r.Index.Raw)
	amdImage, armImage := r.Index.Images[0], r.Index.Images[1]
	for what, test := range map[string]struct{ got, want map[string]string }{
		"amd64 manifest":     {document(amdImage.Manifest), map[string]string{"all": "1"}},
		"arm64 manifest":     {document(armImage.Manifest), map[string]string{"all": "1", "arm": "2"}},
		"amd64 in the index": {index.Manifests[0].Annotations, map[string]string{"entry": "3"}},
		"arm64 in the index": {index.Manifests[1].Annotations, map[string]string{"entry": "3", "armentry": "4"}},
		"index":              {index.Annotations, map[string]string{"index": "5"}},
		"index descriptor":   {r.Index.Annotations, map[string]string{"outer": "6"}},
	} {
		if !maps.Equal(test.got, test.want) {
			t.Errorf("%s: %v, want %v", what, test.got, test.want)
		}
	}

	single := assembled(t, Options{Annotations: []Annotation{{Name: "a", Value: "b"}, {Name: "c", Value: "d", Descriptor: true}}}, images[0])
	if single.Index != nil || !maps.Equal(document(single.Image.Manifest), map[string]string{"a": "b"}) || !maps.Equal(single.Image.Annotations, map[string]string{"c": "d"}) {
		t.Errorf("single image: index %v, descriptor %v, manifest %s", single.Index, single.Image.Annotations, single.Image.Manifest)
	}
}

// TestIndex checks the platforms of an index, its default image and its digest.
func TestIndex(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	arm := built(t, s, "arm", "two")
	arm.Config.Variant = "v7"
	images := []*Image{built(t, s, "s390x", "one"), arm}
	r := assembled(t, Options{}, images...)
	index := unmarshal[ocispec.Index](t, r.Index.Raw)
	var platforms []string
	for i, m := range index.Manifests {
		platforms = append(platforms, m.Platform.OS+"/"+m.Platform.Architecture+"/"+m.Platform.Variant)
		if layer.Digest(m.Digest) != r.Index.Images[i].Digest || m.MediaType != layer.MediaTypeManifest {
			t.Errorf("entry %d: %v, image %s", i, m, r.Index.Images[i].Digest)
		}
	}
	wantList(t, "platforms", platforms, "linux/s390x/", "linux/arm/v7")
	if r.Image.Digest != r.Index.Default().Digest || r.Digest() != r.Index.Digest || r.Digest() != layer.FromBytes(r.Index.Raw) {
		t.Errorf("image %s of index %s", r.Image.Digest, r.Digest())
	}
	if one := assembled(t, Options{}, arm); one.Digest() != one.Image.Digest || one.Digest() != r.Index.Images[1].Digest {
		t.Errorf("alone the image is %s, in an index %s", one.Digest(), r.Index.Images[1].Digest)
	}
}

// TestDockerTypes checks that all documents have Docker's media types.
func TestDockerTypes(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	r := assembled(t, Options{DockerTypes: true}, built(t, s, "amd64", "one"), built(t, s, "arm64", "two"))
	manifest := unmarshal[ocispec.Manifest](t, r.Image.Manifest)
	got := []string{r.Index.MediaType, r.Image.MediaType, manifest.Config.MediaType, manifest.Layers[0].MediaType}
	wantList(t, "media types", got, layer.DockerManifestList, layer.DockerManifest, layer.DockerConfig, layer.DockerLayerGzip)
}

// TestAssembleTwice checks that the result depends on nothing but the images and the
// options, with a time of its own where there is no layer.
func TestAssembleTwice(t *testing.T) {
	t.Parallel()
	var digests []layer.Digest
	for range 2 {
		s := openStore(t)
		empty := built(t, s, "arm64")
		empty.Config.History = []ocispec.History{step("ENV", true)}
		digests = append(digests, assembled(t, Options{}, built(t, s, "amd64", "one"), empty).Digest())
	}
	if digests[0] != digests[1] {
		t.Errorf("different indexes: %s", digests)
	}
	img := built(t, openStore(t), "amd64")
	img.Config.History = []ocispec.History{step("ENV", true)}
	r := assembled(t, Options{}, img)
	wantTime(t, "an image without layers", unmarshal[dockerspec.DockerOCIImage](t, r.Image.Config).Created, now)
	if got := string(r.Image.Manifest); len(r.Image.Layers) != 0 || unmarshal[map[string]any](t, r.Image.Manifest)["layers"] == nil {
		t.Errorf("manifest without an array of layers: %s", got)
	}
}
