package images

import (
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

func TestForPlatform(t *testing.T) {
	image := func(arch string) layer.Image {
		return layer.Image{Digest: layer.FromBytes([]byte(arch)), Config: []byte(`{"os":"linux","architecture":"` + arch + `"}`)}
	}
	amd, arm := image("amd64"), image("arm64")
	both := store.Tagged{Image: amd, Index: &layer.Index{Images: []layer.Image{amd, arm}}}
	for _, test := range []struct {
		platform string
		from     store.Tagged
		want     layer.Digest
	}{
		{"", both, amd.Digest}, {"linux/arm64", both, arm.Digest}, {"linux/s390x", both, ""},
		{"", store.Tagged{Image: arm}, arm.Digest}, {"linux/arm64", store.Tagged{Image: arm}, arm.Digest}, {"linux/amd64", store.Tagged{Image: arm}, ""},
	} {
		var p layer.Platform
		if test.platform != "" {
			p, _ = layer.ParsePlatform(test.platform)
		}
		got, err := ForPlatform(test.from, "app", p)
		if got.Digest != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%q: %s, %v; want %s", test.platform, got.Digest, err, test.want)
		}
	}
}
