package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// LayerStore is the part of a Store that holds the path listing of each layer and
// the descriptors of its blobs.
type LayerStore struct {
	*disk
	mu sync.Mutex // held by AddLayer between reading and writing
}

// AddLayer records that the blob b holds the layer b.DiffID.
func (s *LayerStore) AddLayer(b layer.Descriptor) error {
	if err := b.DiffID.Validate(); err != nil {
		return fmt.Errorf("record a layer: diff ID: %w", err)
	}
	if err := b.Digest.Validate(); err != nil {
		return fmt.Errorf("record a layer: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, err := s.lockFolder(layersDir)
	if err != nil {
		return s.explain("record a layer", err)
	}
	defer unlock()
	all, changed := addBlob(s.Layers(b.DiffID), b)
	if !changed {
		return nil
	}
	if err := s.writeJSON(s.path(layersDir, b.DiffID.Hex()), all, behind); err != nil {
		return s.explain("record a layer", err)
	}
	return nil
}

// addBlob replaces the descriptor with the same digest and media type, or appends b.
func addBlob(all []layer.Descriptor, b layer.Descriptor) ([]layer.Descriptor, bool) {
	i := slices.IndexFunc(all, func(x layer.Descriptor) bool {
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

// Layers returns the descriptors recorded for a diff ID, in the order of recording.
// The blobs need not be in the store.
func (s *LayerStore) Layers(diffID layer.Digest) []layer.Descriptor {
	if diffID.Validate() != nil {
		return nil
	}
	var all []layer.Descriptor
	if !s.readJSON(s.path(layersDir, diffID.Hex()), &all) {
		return nil
	}
	return slices.DeleteFunc(all, func(b layer.Descriptor) bool {
		return b.DiffID != diffID || b.Digest.Validate() != nil
	})
}

// Listing returns the path listing of a layer. The error is fs.ErrNotExist if it is
// missing, or in the format of an older version.
func (s *LayerStore) Listing(diffID layer.Digest) (*listing.Listing, error) {
	if err := diffID.Validate(); err != nil {
		return nil, fmt.Errorf("listing of a layer: %w", err)
	}
	b, ok := s.readSealed(s.path(indexesDir, diffID.Hex()))
	if !ok {
		return nil, notExist("the listing of layer " + string(diffID))
	}
	x, err := listing.Decode(b)
	if err != nil {
		return nil, notExist("the listing of layer " + string(diffID) + " (" + err.Error() + ")")
	}
	return x, nil
}

// PutListing stores the path listing of a layer: a [listing.Listing] or a
// [listing.Packed].
func (s *LayerStore) PutListing(diffID layer.Digest, x interface{ Encode() []byte }) error {
	if err := diffID.Validate(); err != nil {
		return fmt.Errorf("store the listing of a layer: %w", err)
	}
	if err := s.writeSealed(s.path(indexesDir, diffID.Hex()), x.Encode(), behind); err != nil {
		return s.explain("store the listing of layer "+string(diffID), err)
	}
	return nil
}
