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

func TestSet(t *testing.T) {
	arm := imageFor(t, "linux/arm/v6")
	arm.Annotations = map[string]string{"a": "<b>"}
	images := []Image{imageFor(t, "linux/amd64"), imageFor(t, "linux/arm64"), arm}
	set, err := NewSet(images, map[string]string{"c": "d"}, false)
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewSet(images, map[string]string{"c": "d"}, false)
	if err != nil || again.Digest != set.Digest || FromBytes(set.Index) != set.Digest {
		t.Errorf("%s is another the second time: %s, %v", set.Digest, again.Digest, err)
	}
	for _, want := range []string{
		`{"schemaVersion":2,"mediaType":"` + MediaTypeIndex + `","manifests":[`,
		`"annotations":{"a":"<b>"},"platform":{"os":"linux","architecture":"arm","variant":"v6"}}],"annotations":{"c":"d"}}`,
	} {
		if !strings.Contains(string(set.Index), want) {
			t.Errorf("%s lacks %s", set.Index, want)
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
		if img, ok := set.For(p); img.Digest != want || ok != (want != "") {
			t.Errorf("%s: %s, %v; want %s", platform, img.Digest, ok, want)
		}
	}
	if _, err := NewSet(nil, nil, false); err == nil {
		t.Error("there is an index of nothing")
	}
	docker, err := NewSet(images, nil, true)
	if err != nil || docker.MediaType != DockerManifestList {
		t.Errorf("docker's is %s, %v", docker.MediaType, err)
	}
}

// What an index says of its images comes back from it.
func TestParseSet(t *testing.T) {
	arm, amd := imageFor(t, "linux/arm64"), imageFor(t, "linux/amd64")
	arm.Annotations = map[string]string{"a": "b"}
	amd.Described = &Platform{OS: "linux", Architecture: "riscv64", OSVersion: "1"}
	set, err := NewSet([]Image{arm, amd}, map[string]string{"c": "d"}, false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseSet(set.MediaType, set.Index, []Image{imageFor(t, "linux/amd64"), imageFor(t, "linux/s390x"), imageFor(t, "linux/arm64")})
	if err != nil || !reflect.DeepEqual(got, set) {
		t.Errorf("the index of %+v gives %+v, %v", set, got, err)
	}
	if own, err := got.Own(); err != nil || own["c"] != "d" {
		t.Errorf("its annotations are %v, %v", own, err)
	}
	riscv, err := ParsePlatform("linux/riscv64")
	if err != nil {
		t.Fatal(err)
	}
	if img, ok := got.For(riscv); !ok || img.Digest != amd.Digest {
		t.Errorf("for %s it has %s, %v", riscv, img.Digest, ok)
	}
	if _, err := ParseSet(set.MediaType, set.Index, []Image{imageFor(t, "linux/s390x")}); err == nil {
		t.Error("an index of other images is one of these")
	}
	if _, err := ParseSet(set.MediaType, []byte("["), nil); err == nil {
		t.Error("what is no index is one")
	}
}
