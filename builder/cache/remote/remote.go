// Package remote keeps what steps gave where other machines find it: in a
// registry, in a folder, or inside the image itself.
//
// # Format
//
// A cache is an ordinary OCI image, which every registry takes. Its layers are
// those of the steps, the same blobs that images have: pushing one from the
// other moves no byte. What makes it a cache is one more field of its config,
// "cairn.cache":
//
//	version   1
//	records   what is known of steps, each with
//	    keys      the content key first, then recipe keys (hex of SHA-256)
//	    below     the content key of the result that it was made on, if that is no image
//	    over      of a stack: the content key of the result that it adds
//	    layer     the number of its layer in rootfs.diff_ids, from 1; 0 is none
//	    name      the step as people know it
//	    created   when its layer was made, Unix nanoseconds
//	    used      the day of its last export, days since 1970
//	indexes   what layers say of their paths ([index.Index.Encode]), each with
//	    of        the layer's diff ID; it may be one of a base image
//	    data      the index itself, if it is small, or else
//	    layer     the number of a layer that is a tar with it as its only file
//	    used      as of a record
//
// With the indexes a machine that has nothing can do COPY, WORKDIR and --chown
// on what it found here without a byte of any layer. Layers are fetched when a
// RUN needs their trees, or an output that lies elsewhere.
//
// An inline cache is the same field in the config of an image that was built,
// with records of the layers that the image has.
//
// In GitHub's cache service manifest, config and layers are entries of their own.
//
// # Writers
//
// Any number of machines may write one cache at once. A writer merges what it
// has with what is there, looks again before it sets the tag and after, and
// merges anew when another one has been there. Registries can't compare and
// set a tag, so a writer that is held up for long in that moment may still undo
// another's; the next build of that one puts it back. Records that no export has
// used for a month go, and the oldest of more than a cache may hold.
//
// # Trust
//
// Who writes a cache decides what is in the images that are built from it, as
// with a base image. What is read is foreign all the same: it is bounded, keys
// match whole or not at all, layers are checked against digest and diff ID, and
// indexes are never filed in the store, where other builds would see them.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/registry"
)

// ErrNone says that there is no cache at a place yet.
var ErrNone = errors.New("no cache")

// Where is a place for a cache: a reference, a folder or a service, one of them.
type Where struct {
	Ref     string // normalised
	Dir     string
	Service *Service
}

func (w Where) String() string {
	if w.Service != nil {
		return w.Service.String()
	}
	if w.Dir != "" {
		return w.Dir
	}
	return registry.Familiar(w.Ref)
}

// Cache is a cache that was read. It may be used concurrently.
type Cache struct {
	Where
	place   place
	records map[string]*record
	indexes map[layer.Digest]indexRef
	layers  []layer.Blob
}

// Read reads a cache: what is known, not the layers. An image without a cache in
// it is ErrNone. A reference that means several platforms' images is asked for
// that of p.
func Read(ctx context.Context, client *registry.Client, w Where, p layer.Platform) (*Cache, error) {
	at, err := w.place(client, p)
	if err != nil {
		return nil, err
	}
	img, err := at.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", w, err)
	}
	doc, err := decode(img.Config, len(img.Layers))
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", w, err)
	}
	return newCache(w, at, doc, img.Layers), nil
}

func newCache(w Where, at place, doc *document, layers []layer.Blob) *Cache {
	c := &Cache{Where: w, place: at, records: map[string]*record{}, indexes: map[layer.Digest]indexRef{}, layers: layers}
	for i := range doc.Records {
		for _, key := range doc.Records[i].Keys {
			c.records[key] = &doc.Records[i]
		}
	}
	for _, x := range doc.Indexes {
		c.indexes[x.Of] = x
	}
	return c
}

// Len is the number of results that the cache knows.
func (c *Cache) Len() int {
	seen := map[*record]bool{}
	for _, r := range c.records {
		seen[r] = true
	}
	return len(seen)
}

// Record gives what is known under a key.
func (c *Cache) Record(key string) (cache.Record, bool) {
	r, ok := c.records[key]
	if !ok {
		return cache.Record{}, false
	}
	out := cache.Record{Key: r.Keys[0], Below: r.Below, Over: r.Over, Name: r.Name, Created: r.Created}
	if r.Layer > 0 {
		out.Layers = []layer.Blob{c.layers[r.Layer-1]}
	}
	return out, true
}

// Open streams a layer; what comes is verified.
func (c *Cache) Open(ctx context.Context, b layer.Blob) (io.ReadCloser, error) {
	return c.place.open(ctx, b)
}

// HasIndex tells whether Index has an answer for a layer.
func (c *Cache) HasIndex(diffID layer.Digest) bool {
	_, ok := c.indexes[diffID]
	return ok
}

// Index gives what a layer has at each path, as the cache says.
func (c *Cache) Index(ctx context.Context, diffID layer.Digest) (*index.Index, error) {
	ref, ok := c.indexes[diffID]
	if !ok {
		return nil, fmt.Errorf("cache %s: the index of layer %s: %w", c.Where, diffID, ErrNone)
	}
	raw := ref.Data
	if ref.Layer > 0 {
		var err error
		if raw, err = c.unpackIndex(ctx, c.layers[ref.Layer-1]); err != nil {
			return nil, fmt.Errorf("cache %s: the index of layer %s: %w", c.Where, diffID, err)
		}
	}
	x, err := index.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("cache %s: layer %s: %w", c.Where, diffID, err)
	}
	return x, nil
}
