package layout

import (
	"encoding/json"
	"fmt"

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

func (a *Archive) entry(tag string, digest layer.Digest) (descriptor, error) {
	raw, err := a.document(indexFile, maxDocument)
	if err != nil {
		return descriptor{}, err
	}
	var x struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &x); err != nil {
		return descriptor{}, fmt.Errorf("index: %w", err)
	}
	for _, d := range x.Manifests {
		if d.Digest == digest || digest == "" && d.Annotations[refName] == tag {
			return d, nil
		}
	}
	switch {
	case digest != "":
		return a.described(digest)
	case len(x.Manifests) == 1:
		return x.Manifests[0], nil
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
	if err := json.Unmarshal(raw, &m); err != nil {
		return descriptor{}, fmt.Errorf("blob %s: %w", digest, err)
	}
	return descriptor{MediaType: m.MediaType, Digest: digest, Size: int64(len(raw))}, nil
}
