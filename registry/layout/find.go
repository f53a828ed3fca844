package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/layer"
)

// Find gives what a layout has under a tag or, if that is not "", a digest: one
// image, or those of an index, one for each platform. A tag that is not there
// means the layout's only entry, if it has no more than one.
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
	return descriptor{}, fmt.Errorf("it has nothing with the tag %s", tag)
}

// described makes the descriptor of a manifest or index that no entry names.
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

// Lookup gives the image that an archive has under a tag or a name or, if that is
// not "", a digest; of an index also all its images. Without either, the archive
// must have one thing only.
func (a *Archive) Lookup(tag string, digest layer.Digest) (layer.Image, *layer.Set, error) {
	d, err := a.only(tag, digest)
	if errors.Is(err, fs.ErrNotExist) {
		img, err := a.named(tag, digest)
		return img, nil, err
	}
	if err != nil {
		return layer.Image{}, nil, err
	}
	found := &Archive{files: a.files, names: a.names}
	if err := found.addEntry(d, nil, 0); err != nil {
		return layer.Image{}, nil, err
	}
	if len(found.Images) == 0 {
		return layer.Image{}, nil, fmt.Errorf("%s is no image", d.Digest)
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
	set, err := layer.ParseSet(d.MediaType, raw, images)
	if err != nil {
		return layer.Image{}, nil, err
	}
	return set.Main(), &set, nil
}

// only finds the entry of a layout's index; there is fs.ErrNotExist if that is not
// there, as in a docker archive of before OCI.
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
		return descriptor{}, fmt.Errorf("it has %d images: name one by its tag or digest, PATH:TAG or PATH@DIGEST", len(found))
	case digest != "":
		return a.described(digest)
	}
	return descriptor{}, fmt.Errorf("it has nothing with the tag %s", tag)
}

// named finds an image of a docker archive.
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
		return layer.Image{}, errors.New("it has no such image")
	case 1:
		return found[0], nil
	}
	return layer.Image{}, fmt.Errorf("it has %d images: name one by its tag, PATH:TAG", len(found))
}
