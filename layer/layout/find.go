package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/layer"
)

// Find returns the images of a layout with a tag or, if that is not "", a digest:
// one image, or those of an index. If the tag is missing, it returns the only image
// of the layout, if there is only one.
func (a *Archive) Find(tag string, digest layer.Digest) ([]Named, error) {
	found := &Archive{files: a.files, names: a.names}
	d, err := a.entry(tag, digest)
	if err != nil {
		return nil, err
	}
	if err := found.addEntry(d, nil, 0); err != nil {
		return nil, err
	}
	return found.Images, nil
}

// listed reads the layout's own index.
func (a *Archive) listed() ([]descriptor, error) {
	raw, err := a.document(indexFile, maxDocument)
	if err != nil {
		return nil, err
	}
	var x struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := layer.Unmarshal(raw, &x); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return x.Manifests, nil
}

func (a *Archive) entry(tag string, digest layer.Digest) (descriptor, error) {
	all, err := a.listed()
	if err != nil {
		return descriptor{}, err
	}
	for _, d := range all {
		if d.Digest == digest || digest == "" && d.Annotations[refName] == tag {
			return d, nil
		}
	}
	switch {
	case digest != "":
		return a.described(digest)
	case len(all) == 1:
		return all[0], nil
	}
	return descriptor{}, fmt.Errorf("no image has the tag %s", tag)
}

// described returns the descriptor of a manifest or index that is not listed.
func (a *Archive) described(digest layer.Digest) (descriptor, error) {
	if err := digest.Validate(); err != nil {
		return descriptor{}, err
	}
	raw, err := a.blob(digest, maxDocument)
	if err != nil {
		return descriptor{}, err
	}
	var m struct {
		MediaType string `json:"mediaType"`
	}
	if err := layer.Unmarshal(raw, &m); err != nil {
		return descriptor{}, fmt.Errorf("blob %s: %w", digest, err)
	}
	return descriptor{MediaType: m.MediaType, Digest: digest, Size: int64(len(raw))}, nil
}

// Lookup returns the image of an archive with a tag or name or, if that is not "", a
// digest; for an index it returns the index too. Without either, the archive must
// have one image or index only.
func (a *Archive) Lookup(tag string, digest layer.Digest) (layer.Image, *layer.Index, error) {
	d, err := a.only(tag, digest)
	if errors.Is(err, fs.ErrNotExist) {
		img, err := a.named(tag, digest)
		return img, nil, err
	}
	if err != nil {
		return layer.Image{}, nil, err
	}
	return a.read(d)
}

// Entry is an image or an index that a layout lists.
type Entry struct {
	Refs  []string     // normalized; may be empty
	Image layer.Image  // of an index the default one
	Index *layer.Index // with attestations; nil: an image
}

// Entries returns what an OCI layout lists, with all names of each. Artifacts are left
// out.
func (a *Archive) Entries() ([]Entry, error) {
	listed, err := a.listed()
	if err != nil {
		return nil, err
	}
	refs := map[layer.Digest][]string{}
	for _, d := range listed {
		refs[d.Digest] = append(refs[d.Digest], refsOf(d)...)
	}
	var all []Entry
	for _, d := range listed {
		names, ok := refs[d.Digest]
		if !ok {
			continue // seen
		}
		delete(refs, d.Digest)
		img, index, err := a.read(d)
		switch {
		case errors.Is(err, errNoImage):
		case err != nil:
			return nil, err
		default:
			all = append(all, Entry{names, img, index})
		}
	}
	return all, nil
}

var errNoImage = errors.New("not an image")

// read reads the image or index of a descriptor.
func (a *Archive) read(d descriptor) (layer.Image, *layer.Index, error) {
	found := &Archive{files: a.files, names: a.names, attested: true}
	if err := found.addEntry(d, nil, 0); err != nil {
		return layer.Image{}, nil, err
	}
	if len(found.Images) == 0 {
		return layer.Image{}, nil, fmt.Errorf("%s is %w", d.Digest, errNoImage)
	}
	if d.MediaType != layer.MediaTypeIndex && d.MediaType != layer.DockerManifestList {
		return found.Images[0].Image, nil, nil
	}
	raw, err := a.blob(d.Digest, maxDocument)
	if err != nil {
		return layer.Image{}, nil, err
	}
	var images []layer.Image
	for _, n := range found.Images {
		images = append(images, n.Image)
	}
	set, err := layer.ParseIndex(d.MediaType, raw, images)
	if err != nil {
		return layer.Image{}, nil, err
	}
	return set.Default(), &set, nil
}

// only returns the entry of a layout's index. The error is fs.ErrNotExist if there
// is no index, as in a docker archive older than OCI.
func (a *Archive) only(tag string, digest layer.Digest) (descriptor, error) {
	all, err := a.listed()
	if err != nil {
		return descriptor{}, err
	}
	var found []descriptor
	for _, d := range all {
		fits := tag == "" || d.Annotations[refName] == tag || slices.Contains(refsOf(d), tag)
		again := func(e descriptor) bool { return e.Digest == d.Digest }
		if fits && (digest == "" || d.Digest == digest) && !slices.ContainsFunc(found, again) {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return descriptor{}, fmt.Errorf("contains %d images: name one by its tag or digest, PATH:TAG or PATH@DIGEST", len(found))
	case digest != "":
		return a.described(digest)
	}
	return descriptor{}, fmt.Errorf("no image has the tag %s", tag)
}

// named returns an image of a docker archive.
func (a *Archive) named(tag string, digest layer.Digest) (layer.Image, error) {
	var found []layer.Image
	for _, n := range a.Images {
		named := func(ref string) bool { return ref == tag || strings.HasSuffix(ref, ":"+tag) }
		if (tag == "" || slices.ContainsFunc(n.Refs, named)) && (digest == "" || n.Image.Digest == digest) {
			found = append(found, n.Image)
		}
	}
	switch len(found) {
	case 0:
		return layer.Image{}, errors.New("no such image")
	case 1:
		return found[0], nil
	}
	return layer.Image{}, fmt.Errorf("contains %d images: name one by its tag, PATH:TAG", len(found))
}
