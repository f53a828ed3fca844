package store

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/index"
)

// AddLayer notes that b holds the layer b.DiffID.
func (s *Store) AddLayer(b layer.Blob) error {
	if err := b.DiffID.Validate(); err != nil {
		return fmt.Errorf("note a layer: diff ID: %w", err)
	}
	if err := b.Digest.Validate(); err != nil {
		return fmt.Errorf("note a layer: %w", err)
	}
	s.layers.Lock()
	defer s.layers.Unlock()
	unlock, err := s.lockFolder(layersDir)
	if err != nil {
		return s.explain("note a layer", err)
	}
	defer unlock()
	all, changed := addBlob(s.Layers(b.DiffID), b)
	if !changed {
		return nil
	}
	if err := s.writeJSON(s.path(layersDir, b.DiffID.Hex()), all, behind); err != nil {
		return s.explain("note a layer", err)
	}
	return nil
}

// addBlob puts b in place of one with the same digest and media type, or last.
func addBlob(all []layer.Blob, b layer.Blob) ([]layer.Blob, bool) {
	i := slices.IndexFunc(all, func(x layer.Blob) bool {
		return x.Digest == b.Digest && x.MediaType == b.MediaType
	})
	if i < 0 {
		return append(all, b), true
	}
	old, _ := json.Marshal(all[i])
	now, _ := json.Marshal(b)
	all[i] = b
	return all, string(old) != string(now)
}

// lockFolder locks one of the store's own folders, for the length of a small
// write.
func (s *Store) lockFolder(name string) (unlock func(), err error) {
	f, err := os.Open(s.path(name))
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// Layers returns the blobs known for a diff ID, the first noted first. Their
// bytes need not be in the store.
func (s *Store) Layers(diffID layer.Digest) []layer.Blob {
	if diffID.Validate() != nil {
		return nil
	}
	var all []layer.Blob
	if !s.readJSON(s.path(layersDir, diffID.Hex()), &all) {
		return nil
	}
	return slices.DeleteFunc(all, func(b layer.Blob) bool {
		return b.DiffID != diffID || b.Digest.Validate() != nil
	})
}

// Index returns the index of a layer. A missing one, or one that an older
// version wrote, is fs.ErrNotExist.
func (s *Store) Index(diffID layer.Digest) (*index.Index, error) {
	if err := diffID.Validate(); err != nil {
		return nil, fmt.Errorf("index of a layer: %w", err)
	}
	b, ok := s.readSealed(s.path(indexesDir, diffID.Hex()))
	if !ok {
		return nil, notExist("the index of layer " + string(diffID))
	}
	x, err := index.Decode(b)
	if err != nil {
		return nil, notExist("the index of layer " + string(diffID) + " (" + err.Error() + ")")
	}
	return x, nil
}

// PutIndex files the index of a layer: an [index.Index] or an [index.List].
func (s *Store) PutIndex(diffID layer.Digest, x interface{ Encode() []byte }) error {
	if err := diffID.Validate(); err != nil {
		return fmt.Errorf("file the index of a layer: %w", err)
	}
	if err := s.writeSealed(s.path(indexesDir, diffID.Hex()), x.Encode(), behind); err != nil {
		return s.explain("file the index of layer "+string(diffID), err)
	}
	return nil
}
