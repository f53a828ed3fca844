package layer

import (
	"fmt"
	"strings"
	"testing"
)

// FuzzParseImage parses untrusted manifests and configs. CONFIG and SIZE in the
// manifest stand for the digest and size of the config, so that the fuzzer gets past
// their checks.
func FuzzParseImage(f *testing.F) {
	const d = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	m := `{"schemaVersion":2,"config":{"digest":"CONFIG","size":SIZE},"layers":[{"digest":"` + d + `","size":1,"urls":["https://a"]}]`
	f.Add(MediaTypeManifest, m+`}`, `{"os":"linux","rootfs":{"diff_ids":["`+d+`"]}}`)
	f.Add(DockerManifest, m+`,"mediaType":"`+DockerManifest+`","manifests":[]}`, `{}`)
	f.Add("", `{"schemaVersion":2,"config":{"digest":"CONFIG","size":SIZE}}`, `{"architecture":[],"rootfs":null}`)
	f.Add("", `{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":-1},"layers":null}`, `[`)
	f.Fuzz(func(t *testing.T, mediaType, m, config string) {
		m = strings.ReplaceAll(m, "CONFIG", string(FromBytes([]byte(config))))
		m = strings.ReplaceAll(m, "SIZE", fmt.Sprint(len(config)))
		img, err := ParseImage(mediaType, []byte(m), []byte(config))
		if err != nil {
			return
		}
		if b, err := ConfigOf(mediaType, []byte(m)); err != nil || b.Digest != img.ConfigDigest || b.Size != int64(len(config)) {
			t.Errorf("its config is %v, %v; the image has %s", b, err, img.ConfigDigest)
		}
		for _, l := range img.Layers {
			if l.Digest.Validate() != nil || l.DiffID.Validate() != nil || l.Size < 0 {
				t.Errorf("accepted the layer %+v", l)
			}
		}
		again, err := NewImage([]byte(config), img.Layers, nil, img.MediaType == DockerManifest)
		if err != nil {
			t.Fatalf("its layers make no image: %v", err)
		}
		if _, err := ParseImage(again.MediaType, again.Manifest, again.Config); err != nil {
			t.Errorf("can't read what was written: %v", err)
		}
		if p, err := img.Platform(); err == nil {
			p.Compatible()
			_ = p.String() + p.Full()
		}
	})
}

// FuzzDigest checks that no valid digest is a path.
func FuzzDigest(f *testing.F) {
	for _, s := range []string{"", "sha256:", "sha256:../../etc/passwd", "sha512:00", "sha256:" + strings.Repeat("A", 64), string(FromBytes(nil))} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if Digest(s).Validate() != nil {
			return
		}
		hex := strings.TrimPrefix(s, "sha256:")
		if len(hex) != 64 || len(s) != 71 || strings.Trim(hex, "0123456789abcdef") != "" {
			t.Errorf("%q is taken for a digest", s)
		}
	})
}
