package layer

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Index is an image index: the images of several platforms and the document that lists
// them.
type Index struct {
	MediaType string
	Digest    Digest // of Raw
	Raw       []byte
	Images    []Image // at least one, in the order of the index

	// Annotations are those of the descriptor of the index, if there is one.
	Annotations map[string]string
}

type indexEntry struct {
	MediaType   string            `json:"mediaType"`
	Digest      Digest            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *Platform         `json:"platform,omitempty"`
}

// NewIndex makes the index of images, with the media types of OCI or Docker. It is
// deterministic.
func NewIndex(images []Image, annotations map[string]string, docker bool) (Index, error) {
	x := struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []indexEntry      `json:"manifests"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}{SchemaVersion: 2, MediaType: MediaTypeIndex, Annotations: annotations}
	if docker {
		x.MediaType = DockerManifestList
	}
	if len(images) == 0 {
		return Index{}, errors.New("index: no image")
	}
	for _, img := range images {
		p, err := img.Platform()
		if err != nil {
			return Index{}, fmt.Errorf("index: config of %s: %w", img.Digest, err)
		}
		if img.PlatformOverride != nil {
			p = *img.PlatformOverride // unchanged, not normalized
		}
		x.Manifests = append(x.Manifests, indexEntry{img.MediaType, img.Digest, int64(len(img.Manifest)), img.Annotations, &p})
	}
	raw, err := marshal(x)
	if err != nil {
		return Index{}, fmt.Errorf("index: %w", err)
	}
	return Index{MediaType: x.MediaType, Digest: FromBytes(raw), Raw: raw, Images: images}, nil
}

// ParseIndex parses an index. images, in any order, become its images, with the
// annotations and platforms of their descriptors; images that the index does not
// list are left out, and so are entries without an image.
func ParseIndex(mediaType string, raw []byte, images []Image) (Index, error) {
	x, err := decodeIndex(raw)
	if err != nil {
		return Index{}, err
	}
	s := Index{MediaType: mediaType, Digest: FromBytes(raw), Raw: raw}
	for _, p := range x.Manifests {
		i := slices.IndexFunc(images, func(img Image) bool { return img.Digest == p.Digest })
		if i < 0 {
			continue
		}
		img := images[i]
		img.Annotations, img.PlatformOverride = p.Annotations, nil
		if own, err := img.Platform(); p.Platform != nil && (err != nil || !reflect.DeepEqual(own, *p.Platform)) {
			img.PlatformOverride = p.Platform
		}
		s.Images = append(s.Images, img)
	}
	if len(s.Images) == 0 {
		return Index{}, errors.New("index: no image")
	}
	return s, nil
}

// OwnAnnotations returns the annotations that the index document itself has.
func (s Index) OwnAnnotations() (map[string]string, error) {
	x, err := decodeIndex(s.Raw)
	return x.Annotations, err
}

func decodeIndex(raw []byte) (x struct {
	Manifests   []indexEntry      `json:"manifests"`
	Annotations map[string]string `json:"annotations"`
}, err error) {
	if err = Unmarshal(raw, &x); err != nil {
		err = fmt.Errorf("index: %w", err)
	}
	return x, err
}

// ForPlatform returns the image that suits p best.
func (s Index) ForPlatform(p Platform) (Image, bool) {
	for _, q := range p.Compatible() {
		for _, img := range s.Images {
			if have, err := img.Platform(); err == nil && q.Matches(have) {
				return img, true
			}
		}
	}
	return Image{}, false
}

// Default returns the image to use where there can be only one: that for this
// machine, or else the first.
func (s Index) Default() Image {
	if img, ok := s.ForPlatform(HostPlatform()); ok {
		return img
	}
	return s.Images[0]
}

// Platform returns the platform of an image: PlatformOverride, or else that of its
// config.
func (i Image) Platform() (Platform, error) {
	if i.PlatformOverride != nil {
		return i.PlatformOverride.Normalized(), nil
	}
	var p Platform
	err := Unmarshal(i.Config, &p)
	return p.Normalized(), err
}
