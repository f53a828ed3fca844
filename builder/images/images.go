// Package images implements the commands on images of the store: tag and remove, push and
// pull, save and load, compare, and combine into an index.
package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/taghistory"
)

// Manager carries out commands on the images of a store.
type Manager struct {
	Store    *store.Store
	Registry *registry.Client
	Progress *progress.Reporter // may be nil
	Limits   limits.Limits      // of downloaded layers

	// History records the images that pushed tags replace; it may be nil.
	History *taghistory.Recorder

	// Isolation decides how trees can be made, where a command needs them.
	Isolation sandbox.Isolation
}

// Lookup finds an image of the store, or an index of several platforms, by reference or
// by (the beginning of) its ID or digest.
func (m *Manager) Lookup(ref string) (store.Tagged, error) {
	named, ok, nameErr := m.LookupName(ref)
	if ok {
		return named, nil
	}
	t, err := m.lookupID(ref)
	if err != nil || t.Ref != "" {
		return t, err
	}
	if nameErr != nil && len(hexOf(ref)) == 64 { // a whole ID is no name
		return t, &notStoredError{ref}
	}
	if nameErr != nil {
		return t, nameErr
	}
	return t, fmt.Errorf("%w, cairn pull %s fetches it", &notStoredError{ref}, ref)
}

// LookupName finds an image by a reference, which may be a short name. ok is false if
// the store has no image of this name.
func (m *Manager) LookupName(name string) (t store.Tagged, ok bool, err error) {
	first, err := reference.Normalize(name)
	if err != nil {
		return t, false, err
	}
	more, err := m.Registry.Candidates(name)
	for _, full := range append([]string{first}, more...) {
		t, missing := m.Store.Tagged(full)
		if missing == nil {
			return t, true, nil
		}
		if !errors.Is(missing, fs.ErrNotExist) {
			return t, false, missing
		}
	}
	return t, false, err
}

// ErrNotStored is the error of an image that the store does not have.
var ErrNotStored = errors.New("not in the store")

// notStoredError is ErrNotStored with the name of the image.
type notStoredError struct{ ref string }

func (e *notStoredError) Unwrap() error { return ErrNotStored }

func (e *notStoredError) Error() string {
	return "image " + e.ref + " is not in the store: cairn images lists the images that are"
}

var errAmbiguous = errors.New("is the ID of several images, or its beginning: use a longer one")

// lookupID finds an image by the beginning of its ID or digest, of at least six digits.
func (m *Manager) lookupID(id string) (found store.Tagged, err error) {
	if hex := hexOf(id); len(hex) < 6 {
		return found, nil
	}
	all, err := m.Store.Images()
	if err != nil {
		return found, err
	}
	for _, t := range all {
		if !hasID(t, id) {
			continue
		}
		if found.Ref != "" && found.Digest() != t.Digest() {
			return store.Tagged{}, fmt.Errorf("%s %w", id, errAmbiguous)
		}
		found = t
	}
	return found, nil
}

// hasID reports whether an image's ID or digest begins with id.
func hasID(t store.Tagged, id string) bool {
	return hasPrefix(t.Image.ConfigDigest, id) || hasPrefix(t.Digest(), id)
}

// hexOf returns the digits of an ID, which may begin with sha256:, or "" if it is not
// one.
func hexOf(id string) string {
	if len(id) > 7 && id[:7] == "sha256:" {
		id = id[7:]
	}
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
	}
	return id
}

func hasPrefix(d layer.Digest, id string) bool {
	hex := hexOf(id)
	return hex != "" && len(d.Hex()) >= len(hex) && d.Hex()[:len(hex)] == hex
}

// platforms returns the image, or all images of an index.
func platforms(img layer.Image, index *layer.Index) []layer.Image {
	if index != nil {
		return index.Images
	}
	return []layer.Image{img}
}

// Resolve returns the image for a platform that a reference means in its registry.
// Images that were resolved before are not fetched again.
func (m *Manager) Resolve(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
	d, err := m.Registry.ResolveDigest(ctx, ref)
	if err != nil {
		return layer.Image{}, err
	}
	exact := ref + " " + string(d)
	img, err := m.Store.Pin(exact, p.String())
	if err != nil {
		if img, err = m.Registry.Resolve(ctx, ref, p); err != nil {
			return layer.Image{}, err
		}
		if err := m.Store.SetPin(exact, p.String(), img); err != nil {
			return layer.Image{}, fmt.Errorf("storing the digest of %s: %w", ref, err)
		}
	}
	if err := m.Store.SetPin(ref, p.String(), img); err != nil {
		return layer.Image{}, fmt.Errorf("storing the digest of %s: %w", ref, err)
	}
	return img, nil
}

// Snapshots returns a manager for the layers of stored images.
func (m *Manager) Snapshots(ctx context.Context) *snapshot.Manager {
	return snapshot.New(ctx, snapshot.Options{Store: m.Store, Registry: m.Registry, Progress: m.Progress, Limits: m.Limits, Isolation: m.Isolation})
}

// layers returns the layers of all platforms of a stored image. Those that the store
// does not have come from the registry of from.
func (m *Manager) layers(ctx context.Context, t store.Tagged, from string) []*snapshot.Layer {
	return stored(m.Snapshots(ctx), t, from)
}

// stored is layers of a manager.
func stored(s *snapshot.Manager, t store.Tagged, from string) (all []*snapshot.Layer) {
	for _, img := range platforms(t.Image, t.Index) {
		all = append(all, s.StoredImage(img, from).Layers()...)
	}
	return all
}

// openLayer opens the blob of one of the layers.
func openLayer(ctx context.Context, layers []*snapshot.Layer, want layer.Descriptor) (io.ReadCloser, error) {
	for _, l := range layers {
		if blob, err := l.Blob(ctx); err != nil {
			return nil, err
		} else if blob.Digest == want.Digest {
			return l.Open(ctx)
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", want.Digest)
}
