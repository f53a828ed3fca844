package registry

import (
	"bytes"
	"context"
	"net/http"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/internal/imagetest"
	"github.com/cairn-build/cairn/registry/serve"
)

// All images of an index come with it, each with what its descriptor says.
func TestResolveSet(t *testing.T) {
	s := imagetest.Serve(t, handler(t, serve.Options{}))
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
	_, set, err := c.ResolveSet(context.Background(), s.Host+"/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Requests(); len(r) != 7 {
		t.Errorf("requests %q, want the index, three manifests and their configs", r)
	}
	if len(set.Images) != 3 || set.Images[0].Digest != amd64.Digest || set.Images[1].Digest != arm64.Digest {
		t.Errorf("its images are %v", set.Images)
	}
	if p := set.Images[1].Described; p == nil || p.Variant != "v8" {
		t.Errorf("the second is described as %v", p)
	}
	if set.Images[2].Annotations["vnd.docker.reference.type"] != "attestation-manifest" {
		t.Errorf("the attestation's descriptor says %v", set.Images[2].Annotations)
	}
	mediaType, raw, err := c.Manifest(context.Background(), s.Host+"/app:1")
	if err != nil || mediaType != layer.MediaTypeIndex || !bytes.Equal(raw, set.Index) {
		t.Errorf("its document is %s %s, %v", mediaType, raw, err)
	}
	img, one, err := c.ResolveSet(context.Background(), s.Host+"/app@"+string(amd64.Digest))
	if err != nil || one != nil || img.Digest != amd64.Digest {
		t.Errorf("one image is %s, %v, %v", img.Digest, one, err)
	}
	putIndex(t, c, s, "app", "nested", []map[string]any{
		{"mediaType": layer.MediaTypeIndex, "digest": set.Digest, "size": len(set.Index)},
	})
	_, _, err = c.ResolveSet(context.Background(), s.Host+"/app:nested")
	wantError(t, err, "pull HOST/app:nested: "+string(set.Digest)+" of its index: it is an index of its own: name the image that is meant by its digest", s.Host, c)
	if _, _, err := c.Manifest(context.Background(), s.Host+"/app:none"); err == nil || !hasStatus(err, http.StatusNotFound) {
		t.Errorf("a missing one gives %v", err)
	}
}
