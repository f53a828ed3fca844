package layer

import (
	"reflect"
	"strings"
	"testing"
)

func imageFor(t *testing.T, platform string) Image {
	t.Helper()
	p, err := ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	config := `{"os":"` + p.OS + `","architecture":"` + p.Architecture + `","variant":"` + p.Variant + `","rootfs":{"type":"layers","diff_ids":[]}}`
	img, err := NewImage([]byte(config), nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestIndex(t *testing.T) {
	t.Parallel()
	arm := imageFor(t, "linux/arm/v6")
	arm.Annotations = map[string]string{"a": "<b>"}
	images := []Image{imageFor(t, "linux/amd64"), imageFor(t, "linux/arm64"), arm}
	set, err := NewIndex(images, map[string]string{"c": "d"}, false)
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewIndex(images, map[string]string{"c": "d"}, false)
	if err != nil || again.Digest != set.Digest || FromBytes(set.Raw) != set.Digest {
		t.Errorf("%s is another the second time: %s, %v", set.Digest, again.Digest, err)
	}
	for _, want := range []string{
		`{"schemaVersion":2,"mediaType":"` + MediaTypeIndex + `","manifests":[`,
		`"annotations":{"a":"<b>"},"platform":{"os":"linux","architecture":"arm","variant":"v6"}}],"annotations":{"c":"d"}}`,
	} {
		if !strings.Contains(string(set.Raw), want) {
			t.Errorf("%s lacks %s", set.Raw, want)
		}
	}
	for platform, want := range map[string]Digest{
		"linux/amd64": images[0].Digest, "linux/amd64/v3": images[0].Digest, "linux/arm64": images[1].Digest,
		"linux/arm/v7": arm.Digest, "linux/arm/v5": "", "windows/amd64": "",
	} {
		p, err := ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		if img, ok := set.ForPlatform(p); img.Digest != want || ok != (want != "") {
			t.Errorf("%s: %s, %v; want %s", platform, img.Digest, ok, want)
		}
	}
	if _, err := NewIndex(nil, nil, false); err == nil {
		t.Error("there is an index of nothing")
	}
	docker, err := NewIndex(images, nil, true)
	if err != nil || docker.MediaType != DockerManifestList {
		t.Errorf("docker's is %s, %v", docker.MediaType, err)
	}
}

// Parsing an index returns the images that it was made of.
func TestParseIndex(t *testing.T) {
	t.Parallel()
	arm, amd := imageFor(t, "linux/arm64"), imageFor(t, "linux/amd64")
	arm.Annotations = map[string]string{"a": "b"}
	amd.PlatformOverride = &Platform{OS: "linux", Architecture: "riscv64", OSVersion: "1"}
	set, err := NewIndex([]Image{arm, amd}, map[string]string{"c": "d"}, false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseIndex(set.MediaType, set.Raw, []Image{imageFor(t, "linux/amd64"), imageFor(t, "linux/s390x"), imageFor(t, "linux/arm64")})
	if err != nil || !reflect.DeepEqual(got, set) {
		t.Errorf("the index of %+v gives %+v, %v", set, got, err)
	}
	if own, err := got.OwnAnnotations(); err != nil || own["c"] != "d" {
		t.Errorf("its annotations are %v, %v", own, err)
	}
	riscv, err := ParsePlatform("linux/riscv64")
	if err != nil {
		t.Fatal(err)
	}
	if img, ok := got.ForPlatform(riscv); !ok || img.Digest != amd.Digest {
		t.Errorf("for %s it has %s, %v", riscv, img.Digest, ok)
	}
	if _, err := ParseIndex(set.MediaType, set.Raw, []Image{imageFor(t, "linux/s390x")}); err == nil {
		t.Error("an index of other images is one of these")
	}
	if _, err := ParseIndex(set.MediaType, []byte("["), nil); err == nil {
		t.Error("what is no index is one")
	}
}
