package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// ImageStore is the part of a Store that holds images: by tag, and by the reference
// and platform for which they were resolved.
type ImageStore struct {
	*disk
	blobs *BlobStore

	Command string // recorded with each change of a reference; may be empty
}

// maxDocument is the maximum size of a manifest or a config in bytes.
const maxDocument = 64 << 20

// Tagged is an image with its reference.
type Tagged struct {
	Ref     string
	Image   layer.Image  // of an index, the default image
	Index   *layer.Index // nil: a single image
	Created time.Time    // time of tagging
}

// Digest returns the digest of the index, or else of the image.
func (t Tagged) Digest() layer.Digest {
	if t.Index != nil {
		return t.Index.Digest
	}
	return t.Image.Digest
}

// document is a tag or a pin on disk. The bytes of the image are blobs.
type document struct {
	Ref          string       `json:"ref"`
	Platform     string       `json:"platform,omitempty"` // for a pin
	MediaType    string       `json:"mediaType"`
	Digest       layer.Digest `json:"digest"`
	ConfigDigest layer.Digest `json:"configDigest"`
	Created      time.Time    `json:"created"`

	// Index is the image index of a tag; the digests above are then those of its
	// default image.
	Index *indexDocument `json:"set,omitempty"`
}

type indexDocument struct {
	MediaType string       `json:"mediaType"`
	Digest    layer.Digest `json:"digest"`
	Images    []document   `json:"images"`
}

// parts returns the documents of all images.
func (d document) parts() []document {
	if d.Index != nil {
		return d.Index.Images
	}
	return []document{d}
}

func newDocument(ref, platform string, img layer.Image) document {
	return document{
		Ref: ref, Platform: platform, MediaType: img.MediaType,
		Digest: img.Digest, ConfigDigest: img.ConfigDigest, Created: time.Now().UTC().Truncate(time.Second),
	}
}

func (d document) same(other document) bool {
	d.Created, other.Created = time.Time{}, time.Time{}
	return reflect.DeepEqual(d, other)
}

// Tag stores an image under a reference, with its manifest and config. Those of its
// layers that are in the store stay for as long as the tag.
func (s *ImageStore) Tag(ref string, img layer.Image) error {
	err := s.putImage(img)
	if err == nil {
		err = s.setTag(newDocument(ref, "", img))
	}
	if err != nil {
		return s.explain("tag "+ref, err)
	}
	for _, b := range img.Layers {
		s.blobs.TouchBlob(b.Digest)
	}
	return nil
}

// TagIndex stores an image index under a reference, and each of its images as Tag
// does.
func (s *ImageStore) TagIndex(ref string, set layer.Index) error {
	d := newDocument(ref, "", set.Default())
	d.Index = &indexDocument{MediaType: set.MediaType, Digest: set.Digest}
	bytes := [][]byte{set.Raw}
	for _, img := range set.Images {
		part := newDocument("", "", img)
		part.Created = time.Time{}
		d.Index.Images = append(d.Index.Images, part)
		bytes = append(bytes, img.Config, img.Manifest)
	}
	for _, b := range bytes {
		if _, err := s.blobs.PutBytes(b); err != nil {
			return s.explain("tag "+ref, err)
		}
	}
	if err := s.setTag(d); err != nil {
		return s.explain("tag "+ref, err)
	}
	for _, img := range set.Images {
		for _, b := range img.Layers {
			s.blobs.TouchBlob(b.Digest)
		}
	}
	return nil
}

// putImage stores the manifest and the config of an image.
func (s *ImageStore) putImage(img layer.Image) error {
	for _, b := range [][]byte{img.Config, img.Manifest} {
		if _, err := s.blobs.PutBytes(b); err != nil {
			return err
		}
	}
	return nil
}

// Untag removes a reference. The error is fs.ErrNotExist if it is missing.
func (s *ImageStore) Untag(ref string) error {
	unlock, err := s.lockLogs()
	if err != nil {
		return s.explain("untag "+ref, err)
	}
	defer unlock()
	path := s.path(tagsDir, keyName(ref))
	var old document
	if s.readJSON(path, &old) {
		err = s.record(ref, old, true)
	}
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return notExist("image " + ref)
	}
	if err != nil {
		return s.explain("untag "+ref, err)
	}
	s.sync.add(written{folder: s.path(tagsDir)})
	return nil
}

// Tagged returns the image of a reference. The error is fs.ErrNotExist if it is
// missing.
func (s *ImageStore) Tagged(ref string) (Tagged, error) {
	var d document
	if !s.readJSON(s.path(tagsDir, keyName(ref)), &d) {
		return Tagged{}, notExist("image " + ref)
	}
	return s.tagged(d)
}

// Image returns the image of a reference, or the default image of its index. The
// error is fs.ErrNotExist if it is missing.
func (s *ImageStore) Image(ref string) (layer.Image, error) {
	t, err := s.Tagged(ref)
	return t.Image, err
}

func (s *ImageStore) tagged(d document) (t Tagged, err error) {
	t = Tagged{Ref: d.Ref, Created: d.Created}
	if t.Image, err = s.image(d); err != nil || d.Index == nil {
		return t, err
	}
	index, err := s.blobs.ReadBytes(d.Index.Digest, maxDocument)
	if err != nil {
		return t, fmt.Errorf("image %s: %w", d.Ref, err)
	}
	var images []layer.Image
	for _, part := range d.Index.Images {
		part.Ref = d.Ref
		img, err := s.image(part)
		if err != nil {
			return t, err
		}
		images = append(images, img)
	}
	set, err := layer.ParseIndex(d.Index.MediaType, index, images)
	if err != nil {
		return t, fmt.Errorf("image %s: %w", d.Ref, err)
	}
	t.Index, t.Image = &set, set.Default()
	return t, nil
}

func (s *ImageStore) image(d document) (layer.Image, error) {
	manifest, err := s.blobs.ReadBytes(d.Digest, maxDocument)
	if err != nil {
		return layer.Image{}, fmt.Errorf("image %s: %w", d.Ref, err)
	}
	config, err := s.blobs.ReadBytes(d.ConfigDigest, maxDocument)
	if err != nil {
		return layer.Image{}, fmt.Errorf("image %s: %w", d.Ref, err)
	}
	img, err := layer.ParseImage(d.MediaType, manifest, config)
	if err != nil {
		return layer.Image{}, fmt.Errorf("image %s: %w", d.Ref, err)
	}
	return img, nil
}

// Images returns all tagged images, sorted by reference. It skips those that are
// damaged.
func (s *ImageStore) Images() ([]Tagged, error) {
	all, _, err := s.AllImages()
	return all, err
}

// AllImages returns all tagged images, sorted by reference, and an error for each that
// is damaged.
func (s *ImageStore) AllImages() (all []Tagged, damaged []error, err error) {
	documents, torn, err := s.documents(tagsDir)
	if err != nil {
		return nil, nil, s.explain("list the images", err)
	}
	for _, name := range torn {
		damaged = append(damaged, fmt.Errorf("the image of the file %s cannot be read: %w", s.path(tagsDir, name), errTorn))
	}
	for _, d := range documents {
		if strings.HasPrefix(d.Ref, failedPrefix) {
			continue
		}
		t, err := s.tagged(d)
		if err != nil {
			damaged = append(damaged, err)
			continue
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Tagged) int { return strings.Compare(a.Ref, b.Ref) })
	return all, damaged, nil
}

// documents reads all tags or pins without marking them as used. It also returns the
// names of the files that are damaged.
func (s *ImageStore) documents(folder string) (all []document, torn []string, err error) {
	names, err := readNames(s.path(folder))
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		var d document
		if readDocument(s.path(folder, name), &d) {
			all = append(all, d)
			continue
		}
		if _, err := os.Lstat(s.path(folder, name)); err == nil { // not removed meanwhile
			torn = append(torn, name)
		}
	}
	return all, torn, nil
}

func (s *ImageStore) pinPath(ref, platform string) string {
	return s.path(pinsDir, keyName(ref+"\x00"+platform))
}

// SetPin stores the image that a reference was resolved to for a platform.
func (s *ImageStore) SetPin(ref, platform string, img layer.Image) error {
	err := s.putImage(img)
	d, path := newDocument(ref, platform, img), s.pinPath(ref, platform)
	var old document
	if err == nil && !(s.readJSON(path, &old) && old.same(d)) {
		err = s.writeJSON(path, d, before)
	}
	if err != nil {
		return s.explain("pin "+ref, err)
	}
	return nil
}

// Pin returns the image that SetPin stored last. The error is fs.ErrNotExist if it
// is missing.
func (s *ImageStore) Pin(ref, platform string) (layer.Image, error) {
	var d document
	if !s.readJSON(s.pinPath(ref, platform), &d) {
		return layer.Image{}, notExist("the pin of " + ref + " for " + platform)
	}
	return s.image(d)
}
