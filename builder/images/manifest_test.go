package images

import (
	"strings"
	"testing"

	"github.com/cairn-build/cairn/layer"
)

func digests(all []layer.Image) string {
	var out []string
	for _, img := range all {
		out = append(out, string(img.Digest))
	}
	return strings.Join(out, " ")
}

func TestForPlatforms(t *testing.T) {
	amd, arm := imageFor(t, "linux/amd64", ""), imageFor(t, "linux/arm64", "")
	attestation := imageFor(t, "linux/amd64", "sbom")
	attestation.PlatformOverride = &layer.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{attests: string(amd.Digest)}
	all := []layer.Image{amd, arm, attestation}
	got, err := forPlatforms(all, []layer.Platform{{OS: "linux", Architecture: "amd64"}})
	if err != nil || digests(got) != digests([]layer.Image{amd, attestation}) {
		t.Errorf("%v, %v; want the image and its attestation", digests(got), err)
	}
	_, err = forPlatforms([]layer.Image{amd, arm}, []layer.Platform{{OS: "linux", Architecture: "s390x"}})
	if err == nil || err.Error() != "it has no image for linux/s390x, but for linux/amd64, linux/arm64" {
		t.Errorf("error %v", err)
	}
}

func TestDistinct(t *testing.T) {
	amd, other, arm := imageFor(t, "linux/amd64", ""), imageFor(t, "linux/amd64", "other"), imageFor(t, "linux/arm64", "")
	got, err := distinct([]member{{amd, "a"}, {arm, "b"}, {amd, "c"}})
	if err != nil || len(got) != 2 {
		t.Errorf("%d images, %v; want 2", len(got), err)
	}
	_, err = distinct([]member{{amd, "a"}, {other, "b"}})
	if err == nil || !strings.HasPrefix(err.Error(), "a and b both have an image for linux/amd64: ") {
		t.Errorf("error %v", err)
	}
}

// A new image replaces that for its platform, with its attestations.
func TestKeep(t *testing.T) {
	amd, arm, newer := imageFor(t, "linux/amd64", ""), imageFor(t, "linux/arm64", ""), imageFor(t, "linux/amd64", "newer")
	of := func(img layer.Image) layer.Image {
		a := imageFor(t, "linux/amd64", "about "+string(img.Digest))
		a.PlatformOverride = &layer.Platform{OS: "unknown", Architecture: "unknown"}
		a.Annotations = map[string]string{attests: string(img.Digest)}
		return a
	}
	ofAMD, ofARM := of(amd), of(arm)
	kept, replaced := keep([]layer.Image{amd, arm, ofAMD, ofARM}, []member{{newer, "x"}})
	if got, want := digests(kept), digests([]layer.Image{arm, ofARM}); got != want {
		t.Errorf("kept %s, want %s", got, want)
	}
	if got, want := digests(replaced), digests([]layer.Image{amd, ofAMD}); got != want {
		t.Errorf("replaced %s, want %s", got, want)
	}
	if _, replaced := keep([]layer.Image{amd}, []member{{amd, "x"}}); len(replaced) != 0 {
		t.Error("an image replaces itself")
	}
}

func TestOverride(t *testing.T) {
	arm := layer.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	for _, test := range []struct {
		as   layer.Platform
		want string
	}{
		{layer.Platform{}, "linux/arm/v7"},
		{layer.Platform{Variant: "v6"}, "linux/arm/v6"},
		{layer.Platform{Architecture: "amd64"}, "linux/amd64"},
		{layer.Platform{OS: "windows", OSVersion: "10"}, "windows(10)/arm/v7"},
	} {
		if got := override(arm, test.as).Full(); got != test.want {
			t.Errorf("%+v: %s, want %s", test.as, got, test.want)
		}
	}
}

// Platform and annotations of a descriptor can be set; a platform only of one image.
func TestDescribe(t *testing.T) {
	amd := imageFor(t, "linux/amd64", "")
	o := IndexOptions{EntryAnnotations: map[string]string{"a": "b"}, Platform: layer.Platform{OSVersion: "1"}}
	got, err := o.describe("x", []member{{amd, "x"}})
	if err != nil || got[0].Annotations["a"] != "b" || got[0].PlatformOverride.OSVersion != "1" || amd.Annotations != nil {
		t.Errorf("%+v, %v", got, err)
	}
	attestation := imageFor(t, "unknown/unknown", "")
	attestation.Annotations = map[string]string{attests: string(amd.Digest)}
	got, err = o.describe("x", []member{{amd, "x"}, {attestation, "x"}})
	if err != nil || got[0].PlatformOverride.OSVersion != "1" || got[1].PlatformOverride != nil {
		t.Errorf("with an attestation: %+v, %v", got, err)
	}
	if _, err := o.describe("x", []member{{amd, "x"}, {amd, "x"}}); err == nil || !strings.HasPrefix(err.Error(), "x has 2 images") {
		t.Errorf("error %v", err)
	}
}

// CreateIndex makes an index of stored images, amends it, and refuses names in use.
func TestCreateIndex(t *testing.T) {
	m := newManager(t)
	for ref, platform := range map[string]string{"h.example/amd:1": "linux/amd64", "h.example/arm:1": "linux/arm64"} {
		if err := m.Store.Tag(ref, imageFor(t, platform, "")); err != nil {
			t.Fatal(err)
		}
	}
	first, err := m.CreateIndex(t.Context(), "h.example/all:1", IndexOptions{Images: []string{"h.example/amd:1"}, Annotations: map[string]string{"a": "b"}})
	if err != nil || len(first.Index.Images) != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	if _, err := m.CreateIndex(t.Context(), "h.example/all:1", IndexOptions{Images: []string{"h.example/arm:1"}}); err == nil || !strings.Contains(err.Error(), "is an index already") {
		t.Errorf("error %v", err)
	}
	if _, err := m.CreateIndex(t.Context(), "h.example/arm:1", IndexOptions{Images: []string{"h.example/arm:1"}}); err == nil || !strings.Contains(err.Error(), "is an image, not an index") {
		t.Errorf("error %v", err)
	}
	both, err := m.CreateIndex(t.Context(), "h.example/all:1", IndexOptions{Images: []string{"h.example/arm:1"}, Amend: true})
	if err != nil || len(both.Index.Images) != 2 || len(both.Replaced) != 0 {
		t.Fatalf("%+v, %v", both, err)
	}
	if own, err := both.Index.OwnAnnotations(); err != nil || own["a"] != "b" {
		t.Errorf("annotations %v, %v; want those of before", own, err)
	}
	found, err := m.Manifest(t.Context(), "h.example/all:1")
	if err != nil || found.MediaType != layer.MediaTypeIndex || string(found.Raw) != string(both.Index.Raw) {
		t.Errorf("%s, %v", found.MediaType, err)
	}
}
