package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/reference"
)

// IndexOptions describe an index that combines images.
type IndexOptions struct {
	Images           []string          // references in the store or else registries; an index stands for all its images
	Platforms        []layer.Platform  // take only these from an index; none: all
	Amend            bool              // add to an existing index
	Annotations      map[string]string // of the index
	EntryAnnotations map[string]string // of the descriptors of Images
	Platform         layer.Platform    // platform of Images; fields that are not set stay as they are
}

// CreatedIndex is the result of [Manager.CreateIndex].
type CreatedIndex struct {
	Index    layer.Index
	Replaced []layer.Image // images of the existing index that new ones replaced
}

// member is an image of a new index.
type member struct {
	layer.Image
	ref string // in IndexOptions.Images
}

// attests is the annotation with which an attestation of buildx refers to its image.
const attests = "vnd.docker.reference.digest"

// CreateIndex makes an index of images and tags it. It fetches no layers.
func (m *Manager) CreateIndex(ctx context.Context, ref string, o IndexOptions) (*CreatedIndex, error) {
	name, err := reference.Normalize(ref)
	if err != nil {
		return nil, err
	}
	old, err := m.existing(name, o.Amend)
	if err != nil {
		return nil, err
	}
	var added []member
	for _, image := range o.Images {
		found, err := m.members(ctx, image, o.Platforms)
		if err == nil {
			found, err = o.describe(image, found)
		}
		if err != nil {
			return nil, err
		}
		added = append(added, found...)
	}
	return m.join(name, old, added, o)
}

// AddToIndex adds an image of the store, or all images of an index, to the index of a
// name, which it creates if there is none. It does not use o.Images.
func (m *Manager) AddToIndex(ref string, o IndexOptions, img layer.Image, index *layer.Index) (*CreatedIndex, error) {
	name, err := reference.Normalize(ref)
	if err != nil {
		return nil, err
	}
	old, err := m.existing(name, o.Amend)
	if err != nil {
		return nil, err
	}
	var added []member
	for _, one := range platforms(img, index) {
		added = append(added, member{one, string(one.Digest)})
	}
	return m.join(name, old, added, o)
}

// join makes an index of the images of an old one, if there is one, and more, and tags
// it.
func (m *Manager) join(name string, old *layer.Index, added []member, o IndexOptions) (made *CreatedIndex, err error) {
	if added, err = distinct(added); err != nil {
		return nil, err
	}
	made = &CreatedIndex{}
	var all []layer.Image
	if old != nil {
		all, made.Replaced = keep(old.Images, added)
	}
	for _, one := range added {
		all = append(all, one.Image)
	}
	if made.Index, err = o.index(old, all); err != nil {
		return nil, err
	}
	return made, m.Store.TagIndex(name, made.Index)
}

// existing returns the index of a name, or nil if the name is not used.
func (m *Manager) existing(name string, amend bool) (*layer.Index, error) {
	t, err := m.Store.Tagged(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case t.Index == nil:
		return nil, fmt.Errorf("%s is an image, not an index: choose another name, or rename the image with cairn tag and cairn rm", reference.Familiar(name))
	case !amend:
		return nil, fmt.Errorf("%s is an index already: --amend adds to it, cairn rm removes it", reference.Familiar(name))
	}
	return t.Index, nil
}

// members finds the images that a reference means, and records the registry that has
// their layers.
func (m *Manager) members(ctx context.Context, ref string, wanted []layer.Platform) ([]member, error) {
	t, err := m.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	images := platforms(t.Image, t.Index)
	if len(wanted) > 0 {
		if images, err = forPlatforms(images, wanted); err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
	}
	s := m.Snapshots(ctx)
	var found []member
	for _, img := range images {
		if err := s.StoredImage(img, t.Ref).SaveOrigins(ctx); err != nil {
			return nil, err
		}
		found = append(found, member{img, ref})
	}
	return found, nil
}

// find finds an image or index in the store or else in its registry.
func (m *Manager) find(ctx context.Context, ref string) (t store.Tagged, err error) {
	name, remote := strings.CutPrefix(ref, registryScheme)
	if !remote {
		t, err := m.Lookup(name)
		if err == nil {
			return t, nil
		}
		if _, bad := reference.Normalize(name); bad != nil || errors.Is(err, errAmbiguous) {
			return t, err
		}
	}
	if t.Ref, err = m.Registry.ResolveName(ctx, name); err != nil {
		return t, err
	}
	t.Image, t.Index, err = m.Registry.ResolveIndex(ctx, t.Ref)
	return t, err
}

// forPlatforms returns the images for some platforms, with their attestations.
func forPlatforms(images []layer.Image, wanted []layer.Platform) (found []layer.Image, err error) {
	index := layer.Index{Images: images}
	for _, p := range wanted {
		img, ok := index.ForPlatform(p)
		if !ok {
			var have []string
			for _, img := range images {
				if p, err := img.Platform(); err == nil && p.OS != "unknown" {
					have = append(have, p.Full())
				}
			}
			return nil, fmt.Errorf("it has no image for %s, but for %s", p.Full(), strings.Join(have, ", "))
		}
		found = append(found, img)
		for _, other := range images {
			if other.Annotations[attests] == string(img.Digest) {
				found = append(found, other)
			}
		}
	}
	return found, nil
}

// describe sets the platform and the annotations of images.
func (o IndexOptions) describe(ref string, found []member) ([]member, error) {
	p := o.Platform
	changes := p.OS+p.Architecture+p.Variant+p.OSVersion != "" || p.OSFeatures != nil
	n := 0 // images, without their attestations
	for _, m := range found {
		if platformOf(m.Image) != "" {
			n++
		}
	}
	if changes && n > 1 {
		return nil, fmt.Errorf("%s has %d images, which can't all be for one platform: choose one with --platform, or by its digest", ref, n)
	}
	for i := range found {
		m := &found[i]
		if len(o.EntryAnnotations) > 0 {
			m.Annotations = maps.Clone(m.Annotations)
			if m.Annotations == nil {
				m.Annotations = map[string]string{}
			}
			maps.Copy(m.Annotations, o.EntryAnnotations)
		}
		if changes && (n == 0 || platformOf(m.Image) != "") {
			p, err := m.Platform()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", ref, err)
			}
			m.PlatformOverride = override(p, o.Platform)
		}
	}
	return found, nil
}

// override returns p with the fields of as that are set. If the architecture changes,
// the variant of p is dropped.
func override(p, as layer.Platform) *layer.Platform {
	set := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	if as.Architecture != "" && as.Architecture != p.Architecture {
		p.Variant = ""
	}
	set(&p.OS, as.OS)
	set(&p.Architecture, as.Architecture)
	set(&p.Variant, as.Variant)
	set(&p.OSVersion, as.OSVersion)
	if as.OSFeatures != nil {
		p.OSFeatures = as.OSFeatures
	}
	p = p.Normalized()
	return &p
}

// distinct drops duplicates and rejects different images for the same platform.
func distinct(all []member) (out []member, err error) {
	for _, m := range all {
		twice := false
		for _, other := range out {
			if twice = m.Digest == other.Digest && platformOf(m.Image) == platformOf(other.Image); twice {
				break
			}
			if p := platformOf(m.Image); p != "" && p == platformOf(other.Image) {
				return nil, fmt.Errorf("%s and %s both have an image for %s: leave one out with --platform, or set its platform with cairn manifest add --variant or --os-version", other.ref, m.ref, p)
			}
		}
		if !twice {
			out = append(out, m)
		}
	}
	return out, nil
}

// platformOf returns the platform of an image in an index, or "" for an attestation.
func platformOf(img layer.Image) string {
	p, err := img.Platform()
	if err != nil || p.OS == "unknown" || p.OS == "" {
		return ""
	}
	return p.Full()
}

// keep returns the images of an index that stay and those that new ones replace: images
// for the same platform, or the same image with another platform. Attestations stay or
// go with their image.
func keep(old []layer.Image, added []member) (kept, replaced []layer.Image) {
	gone := func(img layer.Image) bool {
		return slices.ContainsFunc(added, func(m member) bool {
			return m.Digest == img.Digest || platformOf(img) != "" && platformOf(m.Image) == platformOf(img)
		})
	}
	about := map[string]bool{}
	for _, img := range old {
		about[string(img.Digest)] = gone(img)
	}
	for _, img := range old {
		switch {
		case !gone(img) && !about[img.Annotations[attests]]:
			kept = append(kept, img)
		case !slices.ContainsFunc(added, func(m member) bool { return m.Digest == img.Digest }):
			replaced = append(replaced, img)
		}
	}
	return kept, replaced
}

// index makes the index: of Docker's media type if all its images are, otherwise of
// OCI's.
func (o IndexOptions) index(old *layer.Index, images []layer.Image) (layer.Index, error) {
	annotations := map[string]string{}
	docker := true
	if old != nil {
		own, err := old.OwnAnnotations()
		if err != nil {
			return layer.Index{}, err
		}
		maps.Copy(annotations, own)
		docker = old.MediaType == layer.DockerManifestList
	}
	maps.Copy(annotations, o.Annotations)
	for _, img := range images {
		if p, err := img.Platform(); err != nil || p.OS == "" || p.Architecture == "" {
			return layer.Index{}, fmt.Errorf("image %s has no platform: add it with cairn manifest add --os and --arch", img.Digest)
		}
		docker = docker && img.MediaType == layer.DockerManifest && len(img.Annotations) == 0
	}
	return layer.NewIndex(images, annotations, docker && len(annotations) == 0)
}

// Manifest is a manifest or an index.
type Manifest struct {
	Ref       string
	MediaType string
	Raw       []byte
}

// Manifest finds a manifest or index in the store or else in its registry.
func (m *Manager) Manifest(ctx context.Context, ref string) (Manifest, error) {
	name, remote := strings.CutPrefix(ref, registryScheme)
	if !remote {
		t, err := m.Lookup(name)
		if err == nil && t.Index != nil {
			return Manifest{t.Ref, t.Index.MediaType, t.Index.Raw}, nil
		}
		if err == nil {
			return Manifest{t.Ref, t.Image.MediaType, t.Image.Manifest}, nil
		}
		if _, bad := reference.Normalize(name); bad != nil || errors.Is(err, errAmbiguous) {
			return Manifest{}, err
		}
	}
	full, err := m.Registry.ResolveName(ctx, name)
	if err != nil {
		return Manifest{}, err
	}
	found := Manifest{Ref: full}
	found.MediaType, found.Raw, err = m.Registry.Manifest(ctx, full)
	return found, err
}
