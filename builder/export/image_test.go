package export

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// childFor is a child with one layer for linux and an architecture.
func childFor(arch string) child {
	id := layer.FromBytes([]byte(arch))
	return child{
		platform: layer.Platform{OS: "linux", Architecture: arch},
		config:   []byte(`{"os":"linux","architecture":"` + arch + `","rootfs":{"type":"layers","diff_ids":["` + string(id) + `"]}}`),
		layers:   []layer.Descriptor{{MediaType: layer.MediaTypeGzip, Digest: layer.FromBytes([]byte("gz" + arch)), DiffID: id, Size: 3}},
	}
}

// document is the part of a manifest or index that tests read.
type document struct {
	MediaType   string
	Annotations map[string]string
	Manifests   []struct {
		Digest      layer.Digest
		Annotations map[string]string
	}
}

func parse(t *testing.T, raw []byte) (d document) {
	t.Helper()
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Annotations go to the manifests, to the descriptors in the index, to the index or to
// the descriptor of the index, and one for a platform only to that.
func TestAnnotations(t *testing.T) {
	arm := layer.Platform{OS: "linux", Architecture: "arm64"}
	o := Options{Annotations: []Annotation{
		{Name: "all", Value: "1"}, {Name: "arm", Value: "2", Platform: &arm}, {Name: "descriptor", Value: "3", Descriptor: true},
		{Name: "index", Value: "4", Index: true}, {Name: "index descriptor", Value: "5", Index: true, Descriptor: true},
	}}
	built, err := o.manifests([]child{childFor("amd64"), childFor("arm64")})
	if err != nil {
		t.Fatal(err)
	}
	index := parse(t, built.Index.Raw)
	if diff := cmp.Diff(map[string]string{"index": "4"}, index.Annotations); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"index descriptor": "5"}, built.Index.Annotations); diff != "" {
		t.Errorf("descriptor of the index (-want +got):\n%s", diff)
	}
	want := []map[string]string{{"all": "1"}, {"all": "1", "arm": "2"}}
	for i, img := range built.Index.Images {
		if diff := cmp.Diff(want[i], parse(t, img.Manifest).Annotations); diff != "" {
			t.Errorf("manifest %d (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(map[string]string{"descriptor": "3"}, index.Manifests[i].Annotations); diff != "" {
			t.Errorf("descriptor %d (-want +got):\n%s", i, diff)
		}
		if index.Manifests[i].Digest != img.Digest {
			t.Errorf("descriptor %d has digest %s, want %s", i, index.Manifests[i].Digest, img.Digest)
		}
	}
	if built.Digest() != built.Index.Digest {
		t.Errorf("digest %s, want that of the index", built.Digest())
	}
}

// An image of one platform has no index. The media types are OCI's or Docker's.
func TestManifests(t *testing.T) {
	for _, docker := range []bool{false, true} {
		o := Options{DockerTypes: docker}
		one, err := o.manifests([]child{childFor("amd64")})
		if err != nil || one.Index != nil || one.Digest() != one.Image.Digest {
			t.Fatalf("%+v, %v", one, err)
		}
		two, err := o.manifests([]child{childFor("amd64"), childFor("arm64")})
		if err != nil {
			t.Fatal(err)
		}
		if two.Index.Images[0].Digest != one.Image.Digest {
			t.Errorf("the image is %s alone and %s in an index", one.Image.Digest, two.Index.Images[0].Digest)
		}
		for _, mediaType := range []string{one.Image.MediaType, two.Index.MediaType} {
			if strings.Contains(mediaType, "docker") != docker {
				t.Errorf("media type %s with docker %v", mediaType, docker)
			}
		}
	}
}

func TestDirectories(t *testing.T) {
	amd, arm := &Image{}, &Image{}
	amd.Platform = layer.Platform{OS: "linux", Architecture: "amd64"}
	arm.Platform = layer.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	old := &Image{Platform: layer.Platform{OS: "windows", Architecture: "amd64", OSVersion: "1.2.3"}}
	newer := &Image{Platform: layer.Platform{OS: "windows", Architecture: "amd64", OSVersion: "1.2.4", OSFeatures: []string{"win32k"}}}
	for _, test := range []struct {
		images []*Image
		split  bool
		want   map[string]*Image
	}{
		{[]*Image{amd}, false, map[string]*Image{"": amd}},
		{[]*Image{amd}, true, map[string]*Image{"linux_amd64": amd}},
		{[]*Image{old, newer}, false, map[string]*Image{"windows(1.2.3)_amd64": old, "windows(1.2.4+win32k)_amd64": newer}},
		{[]*Image{amd, arm}, false, map[string]*Image{"linux_amd64": amd, "linux_arm_v7": arm}},
	} {
		got := directories(test.images, test.split)
		if len(got) != len(test.want) {
			t.Errorf("%v, want %v", got, test.want)
		}
		for name, img := range test.want {
			if got[name] != img {
				t.Errorf("%s: %p, want %p", name, got[name], img)
			}
		}
	}
}

// The root of the tree becomes the directory, and hard links move along.
func TestMoveInto(t *testing.T) {
	changes := func(yield func(tarball.Change, error) bool) {
		for _, e := range []listing.Entry{
			{Path: ".", Type: listing.TypeDir}, {Path: "a", Type: listing.TypeFile},
			{Path: "b", Type: listing.TypeHardlink, Link: "a"}, {Path: "c", Type: listing.TypeSymlink, Link: "a"},
		} {
			if !yield(tarball.Change{Entry: e}, nil) {
				return
			}
		}
	}
	var got []string
	all := func(c tarball.Change, _ error) bool {
		got = append(got, c.Path+" "+c.Link)
		return true
	}
	if !moveInto("d", changes, all) {
		t.Error("it stopped early")
	}
	if diff := cmp.Diff([]string{"d ", "d/a ", "d/b d/a", "d/c a"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if moveInto("d", changes, func(tarball.Change, error) bool { return false }) {
		t.Error("it did not stop")
	}
}
