package images

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/registry/reference"
)

// Tag gives an image of the store an additional name.
func (m *Manager) Tag(ref, as string) error {
	t, err := m.Lookup(ref)
	if err != nil {
		return err
	}
	name, err := reference.Normalize(as)
	if err != nil {
		return fmt.Errorf("invalid tag: %w", err)
	}
	if err := export.Tag(m.Store, name, t.Image, t.Index); err != nil {
		return err
	}
	if t.Ref == export.Untagged(t.Digest()) {
		return m.Store.Untag(t.Ref)
	}
	return nil
}

// Remove removes a name from an image of the store or, given (the beginning of) an ID,
// all names of the image. It returns the removed names. The next prune deletes the
// layers that nothing else needs.
func (m *Manager) Remove(ref string) ([]string, error) {
	names, err := m.names(ref)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if err := m.Store.Untag(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return names[:i], err
		}
	}
	return names, nil
}

// names returns ref itself, or all names of the image whose ID it is.
func (m *Manager) names(ref string) ([]string, error) {
	t, err := m.Lookup(ref)
	var missing *notStoredError
	switch {
	case errors.As(err, &missing):
		return nil, missing // without the advice to pull it
	case err != nil && !errors.Is(err, errAmbiguous):
		return nil, err
	}
	if _, byName, _ := m.LookupName(ref); byName {
		return []string{t.Ref}, nil
	}
	all, listErr := m.Store.Images()
	if listErr != nil {
		return nil, listErr
	}
	var names []string
	config := t.Image.ConfigDigest
	for _, other := range all {
		if !hasID(other, ref) {
			continue
		}
		if err != nil && len(names) > 0 && other.Image.ConfigDigest != config {
			return nil, err
		}
		config, names = other.Image.ConfigDigest, append(names, other.Ref)
	}
	return names, nil
}
