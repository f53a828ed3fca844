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

// maxDocument is the most bytes of a manifest or a config.
const maxDocument = 64 << 20

// Tagged is an image under a name.
type Tagged struct {
	Ref     string
	Image   layer.Image // of a set the main one
	Set     *layer.Set  // nil: a single image
	Created time.Time   // when it got the name
}

// Digest is what the name means: an image, or the index of a set.
func (t Tagged) Digest() layer.Digest {
	if t.Set != nil {
		return t.Set.Digest
	}
	return t.Image.Digest
}

// document is a tag or a pin on disk. The blobs hold the bytes.
type document struct {
	Ref          string       `json:"ref"`
	Platform     string       `json:"platform,omitempty"` // of a pin
	MediaType    string       `json:"mediaType"`
	Digest       layer.Digest `json:"digest"`
	ConfigDigest layer.Digest `json:"configDigest"`
	Created      time.Time    `json:"created"`

	// Set is what a tag of several platforms means; the digests above are those of
	// the main image.
	Set *setDocument `json:"set,omitempty"`
}

type setDocument struct {
	MediaType string       `json:"mediaType"`
	Digest    layer.Digest `json:"digest"`
	Images    []document   `json:"images"`
}

// parts lists the images that a document is about.
func (d document) parts() []document {
	if d.Set != nil {
		return d.Set.Images
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

// Tag names an image, and stores its manifest and config. Its layers that are
// in the store stay there while the tag does.
func (s *Store) Tag(ref string, img layer.Image) error {
	if err := s.putDocument(s.path(tagsDir, keyName(ref)), newDocument(ref, "", img), img); err != nil {
		return s.explain("tag "+ref, err)
	}
	for _, b := range img.Layers {
		s.BlobSize(b.Digest)
	}
	return nil
}

// TagSet names the images of several platforms, and stores what Tag does of each.
func (s *Store) TagSet(ref string, set layer.Set) error {
	d := newDocument(ref, "", set.Main())
	d.Set = &setDocument{MediaType: set.MediaType, Digest: set.Digest}
	bytes := [][]byte{set.Index}
	for _, img := range set.Images {
		part := newDocument("", "", img)
		part.Created = time.Time{}
		d.Set.Images = append(d.Set.Images, part)
		bytes = append(bytes, img.Config, img.Manifest)
	}
	for _, b := range bytes {
		if _, err := s.PutBytes(b); err != nil {
			return s.explain("tag "+ref, err)
		}
	}
	if err := s.putDocument(s.path(tagsDir, keyName(ref)), d, set.Main()); err != nil {
		return s.explain("tag "+ref, err)
	}
	for _, img := range set.Images {
		for _, b := range img.Layers {
			s.BlobSize(b.Digest)
		}
	}
	return nil
}

// putDocument stores the image's bytes, then names them. What says the same
// already is left alone.
func (s *Store) putDocument(path string, d document, img layer.Image) error {
	for _, b := range [][]byte{img.Config, img.Manifest} {
		if _, err := s.PutBytes(b); err != nil {
			return err
		}
	}
	var old document
	if s.readJSON(path, &old) && old.same(d) {
		return nil
	}
	return s.writeJSON(path, d, before)
}

// Untag forgets a name. One that is not there is fs.ErrNotExist.
func (s *Store) Untag(ref string) error {
	err := os.Remove(s.path(tagsDir, keyName(ref)))
	if errors.Is(err, fs.ErrNotExist) {
		return notExist("image " + ref)
	}
	if err != nil {
		return s.explain("untag "+ref, err)
	}
	s.sync.add(written{folder: s.path(tagsDir)})
	return nil
}

// Tagged returns what a name means, or an error that is fs.ErrNotExist.
func (s *Store) Tagged(ref string) (Tagged, error) {
	var d document
	if !s.readJSON(s.path(tagsDir, keyName(ref)), &d) {
		return Tagged{}, notExist("image " + ref)
	}
	return s.tagged(d)
}

// Image returns the image under a name, of a set the main one, or an error that
// is fs.ErrNotExist.
func (s *Store) Image(ref string) (layer.Image, error) {
	t, err := s.Tagged(ref)
	return t.Image, err
}

func (s *Store) tagged(d document) (t Tagged, err error) {
	t = Tagged{Ref: d.Ref, Created: d.Created}
	if t.Image, err = s.image(d); err != nil || d.Set == nil {
		return t, err
	}
	index, err := s.ReadBytes(d.Set.Digest, maxDocument)
	if err != nil {
		return t, fmt.Errorf("image %s: %w", d.Ref, err)
	}
	var images []layer.Image
	for _, part := range d.Set.Images {
		part.Ref = d.Ref
		img, err := s.image(part)
		if err != nil {
			return t, err
		}
		images = append(images, img)
	}
	set, err := layer.ParseSet(d.Set.MediaType, index, images)
	if err != nil {
		return t, fmt.Errorf("image %s: %w", d.Ref, err)
	}
	t.Set, t.Image = &set, set.Main()
	return t, nil
}

func (s *Store) image(d document) (layer.Image, error) {
	manifest, err := s.ReadBytes(d.Digest, maxDocument)
	if err != nil {
		return layer.Image{}, fmt.Errorf("image %s: %w", d.Ref, err)
	}
	config, err := s.ReadBytes(d.ConfigDigest, maxDocument)
	if err != nil {
		return layer.Image{}, fmt.Errorf("image %s: %w", d.Ref, err)
	}
	img, err := layer.ParseImage(d.MediaType, manifest, config)
	if err != nil {
		return layer.Image{}, fmt.Errorf("image %s: %w", d.Ref, err)
	}
	return img, nil
}

// Images returns all tagged images by name. A tag whose image is damaged is
// left out.
func (s *Store) Images() ([]Tagged, error) {
	var all []Tagged
	documents, err := s.documents(tagsDir)
	if err != nil {
		return nil, s.explain("list the images", err)
	}
	for _, d := range documents {
		t, err := s.tagged(d)
		if err != nil {
			continue
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Tagged) int { return strings.Compare(a.Ref, b.Ref) })
	return all, nil
}

// documents reads the tags or the pins, without marking them as used.
func (s *Store) documents(folder string) ([]document, error) {
	names, err := readNames(s.path(folder))
	if err != nil {
		return nil, err
	}
	var all []document
	for _, name := range names {
		var d document
		if readDocument(s.path(folder, name), &d) {
			all = append(all, d)
		}
	}
	return all, nil
}

func (s *Store) pinPath(ref, platform string) string {
	return s.path(pinsDir, keyName(ref+"\x00"+platform))
}

// SetPin notes what a reference meant when it was resolved.
func (s *Store) SetPin(ref, platform string, img layer.Image) error {
	if err := s.putDocument(s.pinPath(ref, platform), newDocument(ref, platform, img), img); err != nil {
		return s.explain("pin "+ref, err)
	}
	return nil
}

// Pin returns what a reference meant when it was last resolved, or an error
// that is fs.ErrNotExist.
func (s *Store) Pin(ref, platform string) (layer.Image, error) {
	var d document
	if !s.readJSON(s.pinPath(ref, platform), &d) {
		return layer.Image{}, notExist("a pin of " + ref + " for " + platform)
	}
	return s.image(d)
}
