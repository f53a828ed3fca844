package builder

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
	"github.com/cairn-build/cairn/registry"
)

// Join says which images to put behind an index, and what the index says of them.
type Join struct {
	Images    []string          // of the store or else their registries; of an index all
	Platforms []layer.Platform  // none: all; of an index, only the images for these
	Amend     bool              // add to what the name means already
	Index     map[string]string // annotations of the index
	Entries   map[string]string // annotations of the descriptors that point at Images
	As        layer.Platform    // what Images are for, in each field that is set
}

// Joined is an index of images that were built apart.
type Joined struct {
	Set      layer.Set
	Replaced []layer.Image // of an earlier index: those for platforms that came anew
}

// member is one image of an index to be.
type member struct {
	layer.Image
	from string // what it was asked for by
}

// registryScheme before a reference means the registry, whatever the store has.
const registryScheme = "docker://"

// attests is the annotation with which buildx points from an attestation at its
// image.
const attests = "vnd.docker.reference.digest"

// Join makes an index of images and keeps it under a name. No layer is fetched.
func (b *Builder) Join(ctx context.Context, ref string, o Join) (*Joined, error) {
	name, err := registry.Normalize(ref)
	if err != nil {
		return nil, err
	}
	old, err := b.joined(name, o.Amend)
	if err != nil {
		return nil, err
	}
	var added []member
	for _, image := range o.Images {
		found, err := b.members(ctx, image, o.Platforms)
		if err == nil {
			found, err = o.describe(image, found)
		}
		if err != nil {
			return nil, err
		}
		added = append(added, found...)
	}
	if added, err = distinct(added); err != nil {
		return nil, err
	}
	j := &Joined{}
	var all []layer.Image
	if old != nil {
		all, j.Replaced = outlive(old.Images, added)
	}
	for _, m := range added {
		all = append(all, m.Image)
	}
	if j.Set, err = o.index(old, all); err != nil {
		return nil, err
	}
	return j, b.Store.TagSet(name, j.Set)
}

// joined is the index that a name means already: nil if there is none.
func (b *Builder) joined(name string, amend bool) (*layer.Set, error) {
	t, err := b.Store.Tagged(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case t.Set == nil:
		return nil, fmt.Errorf("%s is an image, not an index: choose another name, or give the image another with cairn tag and take this one from it with cairn rm", registry.Familiar(name))
	case !amend:
		return nil, fmt.Errorf("%s is an index already: --amend adds to it, cairn rm forgets it", registry.Familiar(name))
	}
	return t.Set, nil
}

// members finds the images that a reference means.
func (b *Builder) members(ctx context.Context, ref string, platforms []layer.Platform) ([]member, error) {
	t, err := b.anywhere(ctx, ref)
	if err != nil {
		return nil, err
	}
	images := []layer.Image{t.Image}
	if t.Set != nil {
		images = t.Set.Images
	}
	if len(platforms) > 0 {
		if images, err = chosen(images, platforms); err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
	}
	w := b.worker(ctx)
	var found []member
	for _, img := range images {
		if err := w.Remember(ctx, w.Stored(img, t.Ref)); err != nil {
			return nil, err
		}
		found = append(found, member{img, ref})
	}
	return found, nil
}

// anywhere finds what a reference means in the store or else in its registry.
func (b *Builder) anywhere(ctx context.Context, ref string) (t store.Tagged, err error) {
	name, remote := strings.CutPrefix(ref, registryScheme)
	if !remote {
		t, err := b.Tagged(name)
		if err == nil {
			return t, nil
		}
		if _, bad := registry.Normalize(name); bad != nil || errors.Is(err, errAmbiguous) {
			return t, err
		}
	}
	if t.Ref, err = b.Registry.Full(ctx, name); err != nil {
		return t, err
	}
	t.Image, t.Set, err = b.Registry.ResolveSet(ctx, t.Ref)
	return t, err
}

// chosen picks the images for some platforms, with their attestations.
func chosen(images []layer.Image, platforms []layer.Platform) (found []layer.Image, err error) {
	set := layer.Set{Images: images}
	for _, p := range platforms {
		img, ok := set.For(p)
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

// describe gives images the platform and the annotations that were asked for.
func (o Join) describe(ref string, found []member) ([]member, error) {
	changes := o.As.OS+o.As.Architecture+o.As.Variant+o.As.OSVersion != "" || o.As.OSFeatures != nil
	if changes && len(found) > 1 {
		return nil, fmt.Errorf("%s has %d images, which can't all be for one platform: choose one with --platform, or by its digest", ref, len(found))
	}
	for i := range found {
		m := &found[i]
		if len(o.Entries) > 0 {
			m.Annotations = maps.Clone(m.Annotations)
			if m.Annotations == nil {
				m.Annotations = map[string]string{}
			}
			maps.Copy(m.Annotations, o.Entries)
		}
		if changes {
			p, err := m.Platform()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", ref, err)
			}
			m.Described = over(p, o.As)
		}
	}
	return found, nil
}

// over is p, with what as says instead. Another architecture has not p's variant.
func over(p, as layer.Platform) *layer.Platform {
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

// distinct drops what is there twice, and refuses two images for one platform.
func distinct(all []member) (out []member, err error) {
	for _, m := range all {
		twice := false
		for _, other := range out {
			if twice = m.Digest == other.Digest && place(m.Image) == place(other.Image); twice {
				break
			}
			if p := place(m.Image); p != "" && p == place(other.Image) {
				return nil, fmt.Errorf("%s and %s both have an image for %s: leave one out with --platform, or say what it is for with cairn manifest add --variant or --os-version", other.from, m.from, p)
			}
		}
		if !twice {
			out = append(out, m)
		}
	}
	return out, nil
}

// place is the platform of which an index has one image; "" for attestations.
func place(img layer.Image) string {
	p, err := img.Platform()
	if err != nil || p.OS == "unknown" || p.OS == "" {
		return ""
	}
	return p.Full()
}

// outlive gives those of an index that nothing new replaces: an image for the same
// platform, or the same image for another. Their attestations go with them.
func outlive(old []layer.Image, added []member) (kept, replaced []layer.Image) {
	gone := func(img layer.Image) bool {
		return slices.ContainsFunc(added, func(m member) bool {
			return m.Digest == img.Digest || place(img) != "" && place(m.Image) == place(img)
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

// index makes the index: docker's kind if all that it holds is, and OCI's
// otherwise.
func (o Join) index(old *layer.Set, images []layer.Image) (layer.Set, error) {
	annotations := map[string]string{}
	docker := true
	if old != nil {
		own, err := old.Own()
		if err != nil {
			return layer.Set{}, err
		}
		maps.Copy(annotations, own)
		docker = old.MediaType == layer.DockerManifestList
	}
	maps.Copy(annotations, o.Index)
	for _, img := range images {
		if p, err := img.Platform(); err != nil || p.OS == "" || p.Architecture == "" {
			return layer.Set{}, fmt.Errorf("image %s does not say what it is for: add it with cairn manifest add --os and --arch", img.Digest)
		}
		docker = docker && img.MediaType == layer.DockerManifest && len(img.Annotations) == 0
	}
	return layer.NewSet(images, annotations, docker && len(annotations) == 0)
}

// Looked is what a reference means, as Look found it.
type Looked struct {
	Ref       string
	MediaType string
	Raw       []byte // the manifest or the index
}

// Look finds the document that a reference means, in the store or else in its
// registry.
func (b *Builder) Look(ctx context.Context, ref string) (Looked, error) {
	name, remote := strings.CutPrefix(ref, registryScheme)
	if !remote {
		t, err := b.Tagged(name)
		if err == nil && t.Set != nil {
			return Looked{t.Ref, t.Set.MediaType, t.Set.Index}, nil
		}
		if err == nil {
			return Looked{t.Ref, t.Image.MediaType, t.Image.Manifest}, nil
		}
		if _, bad := registry.Normalize(name); bad != nil || errors.Is(err, errAmbiguous) {
			return Looked{}, err
		}
	}
	full, err := b.Registry.Full(ctx, name)
	if err != nil {
		return Looked{}, err
	}
	l := Looked{Ref: full}
	l.MediaType, l.Raw, err = b.Registry.Manifest(ctx, full)
	return l, err
}
