package images

import (
	"context"
	"fmt"
	"maps"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/reference"
)

// Source is an image of a registry for [Manager.Combine]; an index stands for all its
// images.
type Source struct {
	Ref         string
	Annotations map[string]string // replace those of the image's descriptor, unless nil
	Platform    *layer.Platform   // replaces that of the image, unless nil
}

// CombineOptions describe an image or index that is made of others in registries.
type CombineOptions struct {
	Sources     []Source
	Append      string            // index or image in a registry to add to; ""
	Platforms   []layer.Platform  // take only these from an index; none: all
	Annotations map[string]string // of the index
	Entries     []EntryAnnotation // of the descriptors in the index
	KeepSingle  bool              // a single image stays one, without an index
}

// EntryAnnotation is an annotation of the descriptors in an index.
type EntryAnnotation struct {
	Platform    *layer.Platform // nil: of all images
	Name, Value string
}

// Combine makes an index of images in registries. It does not change the images of the
// store, and fetches no layers. A single index without changes stays as it is.
func (m *Manager) Combine(ctx context.Context, o CombineOptions) (made store.Tagged, replaced []layer.Image, err error) {
	var added []member
	for _, source := range o.Sources {
		found, err := m.sourceMembers(ctx, source, o.Platforms)
		if err != nil {
			return made, nil, err
		}
		added = append(added, found...)
		made.Ref = source.Ref
	}
	plain := len(o.Annotations)+len(o.Entries)+len(o.Platforms) == 0
	if plain && o.Append == "" && len(o.Sources) == 1 && !o.Sources[0].changed() {
		if t, err := m.find(ctx, registryScheme+made.Ref); err != nil || t.Index != nil || o.KeepSingle {
			return t, nil, err
		}
	}
	var old *layer.Index
	if o.Append != "" {
		if old, err = m.appended(ctx, o.Append); err != nil {
			return made, nil, err
		}
	}
	if added, err = distinct(added); err != nil {
		return made, nil, err
	}
	var all []layer.Image
	if old != nil {
		all, replaced = keep(old.Images, added)
	}
	for _, one := range added {
		all = append(all, one.Image)
	}
	if o.KeepSingle && plain && len(all) == 1 && all[0].PlatformOverride == nil {
		made.Image = all[0]
		return made, replaced, nil
	}
	if err := annotate(all, o.Entries); err != nil {
		return made, nil, err
	}
	index, err := IndexOptions{Annotations: o.Annotations}.index(old, all)
	if err != nil {
		return made, nil, err
	}
	made.Image, made.Index = index.Default(), &index
	return made, replaced, nil
}

func (s Source) changed() bool { return s.Annotations != nil || s.Platform != nil }

// sourceMembers returns the images of a source, as its descriptor describes them.
func (m *Manager) sourceMembers(ctx context.Context, s Source, wanted []layer.Platform) ([]member, error) {
	found, err := m.members(ctx, registryScheme+s.Ref, wanted)
	if err != nil || !s.changed() {
		return found, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%s has %d images, which one descriptor can't describe: name the digest of one", s.Ref, len(found))
	}
	if s.Annotations != nil {
		found[0].Annotations = s.Annotations
	}
	if s.Platform != nil {
		p := s.Platform.Normalized()
		found[0].PlatformOverride = &p
	}
	return found, nil
}

// appended returns the index of a registry to add to. An image becomes an index.
func (m *Manager) appended(ctx context.Context, ref string) (*layer.Index, error) {
	t, err := m.find(ctx, registryScheme+ref)
	if err != nil || t.Index != nil {
		return t.Index, err
	}
	index, err := layer.NewIndex([]layer.Image{t.Image}, nil, t.Image.MediaType == layer.DockerManifest)
	return &index, err
}

// annotate adds annotations to the descriptors of images. Each has to match one.
func annotate(all []layer.Image, entries []EntryAnnotation) error {
	for _, e := range entries {
		matched := false
		for i := range all {
			p, err := all[i].Platform()
			if err != nil || e.Platform != nil && e.Platform.Normalized().Full() != p.Full() {
				continue
			}
			matched = true
			if all[i].Annotations = maps.Clone(all[i].Annotations); all[i].Annotations == nil {
				all[i].Annotations = map[string]string{}
			}
			all[i].Annotations[e.Name] = e.Value
		}
		if !matched {
			return fmt.Errorf("annotation %s: there is no image for %s", e.Name, e.Platform.Full())
		}
	}
	return nil
}

// PushTo pushes an index that [Manager.Combine] has made, under a name. Layers are mounted, or
// streamed from the registries of the sources.
func (m *Manager) PushTo(ctx context.Context, made store.Tagged, as string) error {
	name, err := reference.Normalize(as)
	if err != nil {
		return err
	}
	if made.Ref, err = reference.Normalize(made.Ref); err != nil {
		return err
	}
	_, err = m.push(ctx, made, name)
	return err
}
