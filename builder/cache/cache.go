// Package cache keeps what steps gave, by key, from build to build.
//
// A [Record] is small: it names the layer that a step added and the result that
// the step was made on, and leaves blobs, trees and indexes to the store. It is
// filed only once its layer's blob is safe on disk; whether that blob is still
// there is for the reader to see.
package cache

import (
	"encoding/json"
	"fmt"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

// version is that of the records' meaning; another one is a miss.
const version = 1

// Record is what is known of a step's result.
type Record struct {
	Version int          `json:"version"`
	Key     string       `json:"key"`             // the content key that it was made under
	Below   string       `json:"below,omitempty"` // the key of the result that it lies on; "" for an image or nothing
	Over    string       `json:"over,omitempty"`  // of a stack: the key of the result whose layers it adds
	Layers  []layer.Blob `json:"layers,omitempty"`
	Name    string       `json:"name"`            // the step as people know it
	Created int64        `json:"created"`         // when its layer was made, Unix nanoseconds
	Op      string       `json:"op,omitempty"`    // what was done, and what of each input
	Parts   []string     `json:"parts,omitempty"` // is in the key: they explain a miss
}

// Cache finds records in a store.
type Cache struct{ store *store.Store }

// New gives the cache that a store holds.
func New(s *store.Store) *Cache { return &Cache{s} }

// Get gives the record filed under a key. A record of another version, or one
// that can't be read, is an error like a missing one.
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

// Verify says what is wrong with the bytes of a record. One of another version
// is of no use, but not wrong.
func Verify(b []byte) error {
	_, err := decode(b)
	return err
}

// decode reads a record, and no more than the version of another one.
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

// Put files a record under a key; it is on disk for good when Put returns.
func (c *Cache) Put(key string, r Record) error {
	r.Version = version
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return c.store.PutRecord(key, b)
}

// Drop forgets what is filed under a key.
func (c *Cache) Drop(key string) error { return c.store.DropRecord(key) }
