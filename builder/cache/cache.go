// Package cache stores the results of steps by cache key.
//
// A [Record] names the layer of a step and the result below it; blobs, trees and
// listings are in the store. A record is written after its layer's blob is synced
// to disk. Readers have to check that the blob still exists.
package cache

import (
	"encoding/json"
	"fmt"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

// version is the version of records. Records of another one are misses.
const version = 1

// Record is the result of a step.
type Record struct {
	Version int                `json:"version"`
	Key     string             `json:"key"`             // content key
	Below   string             `json:"below,omitempty"` // key of the result below; "" for an image or scratch
	On      layer.Digest       `json:"on,omitempty"`    // chain ID of the layers below, of a layer that is valid over these only
	Over    string             `json:"over,omitempty"`  // of a stack: key of the result whose layers it adds
	Layers  []layer.Descriptor `json:"layers,omitempty"`
	Name    string             `json:"name"`            // of the step, for display
	Created int64              `json:"created"`         // when the layer was made, in Unix nanoseconds
	Op      string             `json:"op,omitempty"`    // the operation
	Parts   []string           `json:"parts,omitempty"` // parts of the content key, one for each input
}

// Cache holds the records in a store.
type Cache struct{ store *store.Store }

// New returns the cache in a store.
func New(s *store.Store) *Cache { return &Cache{s} }

// Get returns the record under a key. A record that is malformed or of another
// version is an error, like a missing one.
func (c *Cache) Get(key string) (*Record, error) {
	b, err := c.store.Record(key)
	if err != nil {
		return nil, err
	}
	r, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", key, err)
	}
	if r.Version != version {
		return nil, fmt.Errorf("record %s is of version %d, not %d", key, r.Version, version)
	}
	return r, nil
}

// Verify returns an error if a record is malformed. A record of another version is
// valid.
func Verify(b []byte) error {
	_, err := decode(b)
	return err
}

// decode parses a record, or only the version of a record of another version.
func decode(b []byte) (*Record, error) {
	var of struct{ Version int }
	if err := json.Unmarshal(b, &of); err != nil {
		return nil, err
	}
	r := &Record{Version: of.Version}
	if of.Version != version {
		return r, nil
	}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, err
	}
	for _, b := range r.Layers {
		if err := b.Digest.Validate(); err != nil {
			return nil, err
		}
		if err := b.DiffID.Validate(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Put stores a record under a key. It is synced to disk when Put returns.
func (c *Cache) Put(key string, r Record) error {
	r.Version = version
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return c.store.PutRecord(key, b)
}

// Drop removes the record under a key.
func (c *Cache) Drop(key string) error { return c.store.DropRecord(key) }
