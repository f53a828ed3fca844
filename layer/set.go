package layer

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Set is the images of several platforms, behind the index that points at them.
type Set struct {
	MediaType string
	Digest    Digest // of Index
	Index     []byte
	Images    []Image // at least one, in the order of the index

	// Annotations are those of the descriptor that points at the index, where there
	// is one.
	Annotations map[string]string
}

type pointer struct {
	MediaType   string            `json:"mediaType"`
	Digest      Digest            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *Platform         `json:"platform,omitempty"`
}

// NewSet makes the index for images, in OCI's or in docker's media types. The
// same arguments give the same bytes.
func NewSet(images []Image, annotations map[string]string, docker bool) (Set, error) {
	x := struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []pointer         `json:"manifests"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}{SchemaVersion: 2, MediaType: MediaTypeIndex, Annotations: annotations}
	if docker {
		x.MediaType = DockerManifestList
	}
	if len(images) == 0 {
		return Set{}, errors.New("index: no image")
	}
	for _, img := range images {
		p, err := img.Platform()
		if err != nil {
			return Set{}, fmt.Errorf("index: config of %s: %w", img.Digest, err)
		}
		if img.Described != nil {
			p = *img.Described // byte by byte
		}
		x.Manifests = append(x.Manifests, pointer{img.MediaType, img.Digest, int64(len(img.Manifest)), img.Annotations, &p})
	}
	raw, err := marshal(x)
	if err != nil {
		return Set{}, fmt.Errorf("index: %w", err)
	}
	return Set{MediaType: x.MediaType, Digest: FromBytes(raw), Index: raw, Images: images}, nil
}

// ParseSet reads an index. Of the images, which are given in any order, its own
// come behind it, with what their descriptors say of them; entries that are none of
// them are left out.
func ParseSet(mediaType string, raw []byte, images []Image) (Set, error) {
	x, err := parseIndex(raw)
	if err != nil {
		return Set{}, err
	}
	s := Set{MediaType: mediaType, Digest: FromBytes(raw), Index: raw}
	for _, p := range x.Manifests {
		i := slices.IndexFunc(images, func(img Image) bool { return img.Digest == p.Digest })
		if i < 0 {
			continue
		}
		img := images[i]
		img.Annotations, img.Described = p.Annotations, nil
		if own, err := img.Platform(); p.Platform != nil && (err != nil || !reflect.DeepEqual(own, *p.Platform)) {
			img.Described = p.Platform
		}
		s.Images = append(s.Images, img)
	}
	if len(s.Images) == 0 {
		return Set{}, errors.New("index: no image")
	}
	return s, nil
}

// Own gives the annotations that the index has itself.
func (s Set) Own() (map[string]string, error) {
	x, err := parseIndex(s.Index)
	return x.Annotations, err
}

func parseIndex(raw []byte) (x struct {
	Manifests   []pointer         `json:"manifests"`
	Annotations map[string]string `json:"annotations"`
}, err error) {
	if err = Unmarshal(raw, &x); err != nil {
		err = fmt.Errorf("index: %w", err)
	}
	return x, err
}

// For gives the best of the images for a platform.
func (s Set) For(p Platform) (Image, bool) {
	for _, q := range p.Compatible() {
		for _, img := range s.Images {
			if have, err := img.Platform(); err == nil && q.Matches(have) {
				return img, true
			}
		}
	}
	return Image{}, false
}

// Main is the image that stands for all where there can be one only: that for
// this machine, else the first.
func (s Set) Main() Image {
	if img, ok := s.For(HostPlatform()); ok {
		return img
	}
	return s.Images[0]
}

// Platform is what an image is for: what its descriptor says or, if that says
// nothing else, its config.
func (i Image) Platform() (Platform, error) {
	if i.Described != nil {
		return i.Described.Normalized(), nil
	}
	var p Platform
	err := Unmarshal(i.Config, &p)
	return p.Normalized(), err
}
