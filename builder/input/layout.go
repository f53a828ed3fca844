package input

import (
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/layout"
	"github.com/cairn-build/cairn/layer/store"
)

// LayoutScheme marks a reference to an image in an OCI layout.
const LayoutScheme = "oci-layout://"

// splitLayout splits oci-layout://DIR[:TAG][@DIGEST]. The tag is latest unless it is given.
func splitLayout(ref string) (dir, tag string, digest layer.Digest) {
	dir, hash, _ := strings.Cut(strings.TrimPrefix(ref, LayoutScheme), "@")
	dir, tag, ok := strings.Cut(dir, ":")
	if !ok {
		tag = "latest"
	}
	return dir, tag, layer.Digest(hash)
}

// LayoutImage finds the image for a platform in an OCI layout, given as
// oci-layout://DIR[:TAG][@DIGEST], and copies its layers into the store.
func LayoutImage(s *store.Store, ref string, p layer.Platform) (layer.Image, error) {
	dir, tag, digest := splitLayout(ref)
	a, err := layout.ReadOCI(dir)
	if err != nil {
		return layer.Image{}, err
	}
	defer a.Close()
	found, err := a.Find(tag, digest)
	if err != nil {
		return layer.Image{}, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	img, err := forPlatform(found, p)
	if err != nil {
		return img, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	for _, b := range img.Layers {
		if err := copyLayer(s, a, b); err != nil {
			return img, fmt.Errorf("OCI layout %s: %w", dir, err)
		}
	}
	return img, nil
}

// forPlatform returns the best image for a platform. A single image is returned
// whatever its platform.
func forPlatform(found []layout.Named, p layer.Platform) (layer.Image, error) {
	if len(found) == 1 {
		return found[0].Image, nil
	}
	for _, q := range p.Compatible() {
		for _, n := range found {
			if q.Matches(n.Platform) {
				return n.Image, nil
			}
		}
	}
	return layer.Image{}, fmt.Errorf("it has no image for %s", p)
}

func copyLayer(s *store.Store, a *layout.Archive, b layer.Descriptor) error {
	if _, ok := s.TouchBlob(b.Digest); ok {
		return nil
	}
	r, err := a.Open(b)
	if err != nil {
		return err
	}
	defer r.Close()
	return s.PutBlob(b.Digest, b.Size, r)
}
