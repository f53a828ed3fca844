package registry

import (
	"bytes"
	"context"
	"net/http"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry/registrytest"
	"github.com/cairn-build/cairn/registry/server"
	"github.com/cairn-build/cairn/registry/transport"
)

// ResolveIndex returns all images of an index with the fields of their descriptors.
func TestResolveAllImages(t *testing.T) {
	t.Parallel()
	s := imagetest.Serve(t, registrytest.Handler(t, server.Options{}))
	c, _ := newClient(t, Options{})
	amd64, arm64 := imagetest.New(t, "amd64", false, "a"), imagetest.New(t, "arm64", true, "b")
	attestation := imagetest.New(t, "unknown", false, "d")
	about := entry(attestation, map[string]string{"os": "unknown", "architecture": "unknown"})
	about["annotations"] = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	putIndex(t, c, s, "app", "1", []map[string]any{
		entry(amd64, map[string]string{"os": "linux", "architecture": "amd64"}),
		entry(arm64, map[string]string{"os": "linux", "architecture": "arm64", "variant": "v8"}),
		about,
	}, attestation, amd64, arm64)
	s.Requests()
	_, set, err := c.ResolveIndex(context.Background(), s.Host+"/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Requests(); len(r) != 7 {
		t.Errorf("requests %q, want the index, three manifests and their configs", r)
	}
	if len(set.Images) != 3 || set.Images[0].Digest != amd64.Digest || set.Images[1].Digest != arm64.Digest {
		t.Errorf("its images are %v", set.Images)
	}
	if p := set.Images[1].PlatformOverride; p == nil || p.Variant != "v8" {
		t.Errorf("the second is described as %v", p)
	}
	if set.Images[2].Annotations["vnd.docker.reference.type"] != "attestation-manifest" {
		t.Errorf("the attestation's descriptor says %v", set.Images[2].Annotations)
	}
	mediaType, raw, err := c.Manifest(context.Background(), s.Host+"/app:1")
	if err != nil || mediaType != layer.MediaTypeIndex || !bytes.Equal(raw, set.Raw) {
		t.Errorf("its document is %s %s, %v", mediaType, raw, err)
	}
	img, one, err := c.ResolveIndex(context.Background(), s.Host+"/app@"+string(amd64.Digest))
	if err != nil || one != nil || img.Digest != amd64.Digest {
		t.Errorf("one image is %s, %v, %v", img.Digest, one, err)
	}
	putIndex(t, c, s, "app", "nested", []map[string]any{
		{"mediaType": layer.MediaTypeIndex, "digest": set.Digest, "size": len(set.Raw)},
	})
	_, _, err = c.ResolveIndex(context.Background(), s.Host+"/app:nested")
	wantError(t, err, "pull HOST/app:nested: "+string(set.Digest)+" of the index: it is another index, which is not supported; refer to the image by its digest", s.Host, c)
	if _, _, err := c.Manifest(context.Background(), s.Host+"/app:none"); err == nil || transport.Status(err) != http.StatusNotFound {
		t.Errorf("a missing one gives %v", err)
	}
}
