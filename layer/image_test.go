package layer

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func configFor(layers []Descriptor) []byte {
	ids := make([]Digest, 0, len(layers))
	for _, l := range layers {
		ids = append(ids, l.DiffID)
	}
	b, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
	if err != nil {
		panic(err)
	}
	return b
}

func twoLayers() []Descriptor {
	return []Descriptor{
		{MediaType: DockerLayerGzip, Digest: FromBytes([]byte("z0")), Size: 10, DiffID: FromBytes([]byte("0"))},
		{MediaType: MediaTypeZstd, Digest: FromBytes([]byte("z1")), Size: 20, DiffID: FromBytes([]byte("1")), Annotations: map[string]string{"k": "<v>"}},
	}
}

func TestNewImageAndBack(t *testing.T) {
	t.Parallel()
	for _, docker := range []bool{false, true} {
		for _, layers := range [][]Descriptor{nil, twoLayers()} {
			img, err := NewImage(configFor(layers), layers, map[string]string{"b": "2", "a": "1&"}, docker)
			if err != nil {
				t.Fatal(err)
			}
			again, err := NewImage(configFor(layers), layers, map[string]string{"a": "1&", "b": "2"}, docker)
			if err != nil || string(again.Manifest) != string(img.Manifest) {
				t.Errorf("other bytes the second time: %v", err)
			}
			back, err := ParseImage(img.MediaType, img.Manifest, img.Config)
			if err != nil {
				t.Fatal(err)
			}
			if len(layers) == 0 {
				img.Layers, back.Layers = nil, nil
			}
			if diff := cmp.Diff(img, back); diff != "" {
				t.Error(diff)
			}
			c, err := ConfigOf("", img.Manifest)
			if err != nil || c.Digest != img.ConfigDigest || c.Size != int64(len(img.Config)) {
				t.Errorf("ConfigOf: %+v, %v", c, err)
			}
		}
	}
}

func TestManifestText(t *testing.T) {
	t.Parallel()
	layers := twoLayers()
	config := configFor(layers)
	img, err := NewImage(config, layers, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",`+
		`"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"%s","size":%d},`+
		`"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":"%s","size":10},`+
		`{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.zstd","digest":"%s","size":20,"annotations":{"k":"<v>"}}]}`,
		FromBytes(config), len(config), layers[0].Digest, layers[1].Digest)
	if string(img.Manifest) != want {
		t.Errorf("got  %s\nwant %s", img.Manifest, want)
	}
	if layers[0].MediaType != DockerLayerGzip || layers[1].MediaType != MediaTypeZstd {
		t.Error("the caller's layers were changed")
	}
}

func TestImageRefuses(t *testing.T) {
	t.Parallel()
	layers := twoLayers()
	good, err := NewImage(configFor(layers), layers, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	manifest := string(good.Manifest)
	digest0 := string(layers[0].Digest)
	tests := []struct {
		name, mediaType, manifest string
		config                    []byte
		want                      string
	}{
		{"not JSON", "", "no", good.Config, "manifest: invalid"},
		{"schema 1", "", `{"schemaVersion":1}`, good.Config, "schema version 1"},
		{"served as something else", DockerManifest, manifest, good.Config, "but it was served as"},
		{"an index", "", strings.Replace(manifest, MediaTypeManifest, MediaTypeIndex, 1), good.Config, "not an image manifest"},
		{"image and index", "", strings.Replace(manifest, `"layers"`, `"manifests":[],"layers"`, 1), good.Config, "both an image and an index"},
		{"bad digest", "", strings.Replace(manifest, digest0, "sha256:../../x", 1), good.Config, "layer 0: digest"},
		{"negative size", "", strings.Replace(manifest, `"size":10`, `"size":-1`, 1), good.Config, "layer 0: size -1"},
		{"config of another size", "", manifest, append([]byte(" "), good.Config...), "manifest says"},
		{"another config", "", manifest, []byte(strings.Replace(string(good.Config), "linux", "lynux", 1)), "digest is"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseImage(tt.mediaType, []byte(tt.manifest), tt.config)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := NewImage(configFor(layers[:1]), layers, nil, false); err == nil {
		t.Error("accepted one diff ID for two layers")
	}
	swapped := []Descriptor{layers[1], layers[0]}
	if _, err := NewImage(configFor(layers), swapped, nil, false); err == nil {
		t.Error("accepted layers in another order than the config's")
	}
	if _, err := NewImage([]byte(`{"rootfs":{"diff_ids":["x"]}}`), layers[:1], nil, false); err == nil {
		t.Error("accepted a malformed diff ID")
	}
	noType := strings.Replace(manifest, `"mediaType":"`+MediaTypeManifest+`",`, "", 1)
	if img, err := ParseImage("", []byte(noType), good.Config); err != nil || img.MediaType != MediaTypeManifest {
		t.Errorf("a manifest that does not name its type: %q, %v", img.MediaType, err)
	}
}

func TestPlatformWithVersion(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Platform{
		"windows(10.0.17763)/amd64":     {OS: "windows", Architecture: "amd64", OSVersion: "10.0.17763"},
		"windows(10.0+win32k+a)/arm/v7": {OS: "windows", Architecture: "arm", Variant: "v7", OSVersion: "10.0", OSFeatures: []string{"a", "win32k"}},
		"linux(+sse4)/amd64":            {OS: "linux", Architecture: "amd64", OSFeatures: []string{"sse4"}},
		"linux()/arm64":                 {OS: "linux", Architecture: "arm64"},
	} {
		p, err := ParsePlatform(in)
		if err != nil || !cmp.Equal(p, want) {
			t.Errorf("%s: got %+v, %v", in, p, err)
			continue
		}
		if back, err := ParsePlatform(p.Full()); err != nil || !cmp.Equal(back, p) {
			t.Errorf("%s: %s reads as %+v, %v", in, p.Full(), back, err)
		}
	}
	for _, in := range []string{"amd64(1)", "linux(1/amd64", "linux(a b)/amd64", "linux(1)/a/b/c", "linux(1)/?"} {
		if p, err := ParsePlatform(in); err == nil {
			t.Errorf("%s: got %+v", in, p)
		}
	}
}

// An artifact is named as such, and a layer that is no archive is recognised.
func TestArtifacts(t *testing.T) {
	empty := []byte("{}")
	manifest := func(artifactType, config, layer string) []byte {
		return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,%s"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":2}]}`,
			MediaTypeManifest, artifactType, config, FromBytes(empty), layer, FromBytes(empty))
	}
	for _, test := range []struct{ artifactType, config, want string }{
		{"", "application/vnd.cncf.helm.config.v1+json", `it is an artifact of type "application/vnd.cncf.helm.config.v1+json", not an image`},
		{`"artifactType":"application/spdx+json",`, "application/vnd.oci.empty.v1+json", `it is an artifact of type "application/spdx+json", not an image`},
		{"", MediaTypeConfig, "image config: 0 diff IDs for 1 layers"},
		{"", DockerConfig, "image config: 0 diff IDs for 1 layers"},
	} {
		if _, err := ParseImage("", manifest(test.artifactType, test.config, MediaTypeTar), empty); err == nil || err.Error() != test.want {
			t.Errorf("%s: %v, want %q", test.config, err, test.want)
		}
	}
	statement := "application/vnd.in-toto+json"
	img, err := ParseImage("", manifest(`"artifactType":"`+attestation+`",`, emptyConfig, statement), empty)
	if err != nil || img.Layers[0].DiffID != FromBytes(empty) || img.Foreign() != statement {
		t.Errorf("an attestation without a config: %+v, %v", img, err)
	}
	for mediaType, foreign := range map[string]bool{
		MediaTypeTar: false, MediaTypeZstd: false, DockerLayerGzip: false, DockerForeignGzip: false, "": false, "application/octet-stream": false,
		"application/vnd.in-toto+json": true, "application/vnd.dev.cosign.simplesigning.v1+json": true,
	} {
		img := Image{Layers: []Descriptor{{MediaType: MediaTypeGzip}, {MediaType: mediaType}}}
		if got := img.Foreign(); (got != "") != foreign {
			t.Errorf("%q: Foreign returns %q", mediaType, got)
		}
	}
}
