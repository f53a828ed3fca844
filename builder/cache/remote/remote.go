// Package remote exports the results of steps for other machines, and imports them:
// to a registry, a directory, GitHub's cache service, a store of objects such as S3, or
// inside the built image.
//
// # Format
//
// A cache is an ordinary OCI image. Its layers are those of the steps, the same blobs
// as in images, so a registry can mount them from one to the other. The config has
// one additional field, "cairn.cache":
//
//	version   1
//	records   results of steps, each with
//	    keys      the content key, then recipe keys (hex of SHA-256)
//	    below     the content key of the result below, unless that is an image
//	    over      of a stack: the content key of the result that it adds
//	    layer     the number of its layer in rootfs.diff_ids, from 1; 0 is none
//	    name      the name of the step, for display
//	    created   when its layer was made, in Unix nanoseconds
//	    used      the day of its last export, in days since 1970
//	indexes   listings of layers ([listing.Listing.Encode]), each with
//	    of        the layer's diff ID; it may be one of a base image
//	    data      the listing itself, if it is small, or else
//	    layer     the number of a layer that is a tar with the listing as its only file
//	    used      as in records
//
// With the listings, COPY, WORKDIR and --chown on imported results need no bytes of
// their layers. A layer is fetched when a RUN needs its tree, or when it is exported
// to another location.
//
// An inline cache is the same field in the config of a built image, with records of
// the layers of that image.
//
// In GitHub's cache service the manifest with the config, and each layer, are entries,
// and in a store such as S3 they are objects.
//
// # Writers
//
// Any number of machines may write to a cache concurrently. A writer merges its
// content with the current one, checks the tag immediately before and after setting
// it, and starts again after a random pause if another writer changed it. Registries have no
// compare-and-swap for tags, so a writer that is delayed between check and write may
// overwrite another's content; the next build of that one restores it. Records that no
// export has used for a month are dropped, and so are the least recently used ones
// above the size limits.
//
// # Trust
//
// Writers of a cache control the content of the images that are built from it, as
// with a base image. Apart from that, caches are untrusted input: sizes are limited,
// keys must match exactly, layers are verified against digest and diff ID, and
// listings are not stored, so that other builds do not see them.
package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
)

// ErrNotFound means that there is no cache at a location.
var ErrNotFound = errors.New("no cache")

// Location is the location of a cache: one of a reference, a directory, a
// service and a bucket.
type Location struct {
	Ref     string // normalised
	Dir     string
	Tag     string       // of the cache in Dir; "" is latest
	Digest  layer.Digest // of the manifest to read from Dir; "" is that of Tag
	Service *Service
	Bucket  *Bucket

	MaxAge  time.Duration // of results that are read; 0: any
	Timeout time.Duration // of an import or export, without the layers that are read later; 0: none
}

// limit returns a context that ends after the timeout.
func (w Location) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if w.Timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, w.Timeout, fmt.Errorf("not finished after %v: set a longer timeout", w.Timeout))
}

func (w Location) String() string {
	if w.Service != nil {
		return w.Service.String()
	}
	if w.Bucket != nil {
		return w.Bucket.String()
	}
	if w.Dir != "" && (w.Tag != "" || w.Digest != "") {
		return w.Dir + ", " + cmp.Or(string(w.Digest), w.Tag)
	}
	if w.Dir != "" {
		return w.Dir
	}
	return reference.Familiar(w.Ref)
}

// Cache is a cache that was read. It is safe for concurrent use.
type Cache struct {
	Location
	backend backend
	records map[string]*record
	indexes map[layer.Digest]indexRef
	layers  []layer.Descriptor
}

// Read reads a cache, without its layers. It returns ErrNotFound if there is no
// image, or one without a cache. Of an image index it reads the image for p.
func Read(ctx context.Context, client *registry.Client, w Location, p layer.Platform) (*Cache, error) {
	at, err := w.backend(client, p)
	if err != nil {
		return nil, err
	}
	within, cancel := w.limit(ctx)
	defer cancel()
	img, err := at.read(within)
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", w, overdue(within, err))
	}
	doc, err := decode(img.Config, len(img.Layers))
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", w, err)
	}
	return newCache(w, at, doc, img.Layers), nil
}

// overdue returns the cause for which a context has ended, if err is that it has.
func overdue(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func newCache(w Location, at backend, doc *document, layers []layer.Descriptor) *Cache {
	c := &Cache{Location: w, backend: at, records: map[string]*record{}, indexes: map[layer.Digest]indexRef{}, layers: layers}
	for i := range doc.Records {
		if w.MaxAge != 0 && time.Since(time.Unix(0, doc.Records[i].Created)) > w.MaxAge {
			continue
		}
		for _, key := range doc.Records[i].Keys {
			c.records[key] = &doc.Records[i]
		}
	}
	for _, x := range doc.Indexes {
		c.indexes[x.Of] = x
	}
	return c
}

// Len returns the number of results in the cache.
func (c *Cache) Len() int {
	seen := map[*record]bool{}
	for _, r := range c.records {
		seen[r] = true
	}
	return len(seen)
}

// Record returns the record under a key, and reports whether there is one.
func (c *Cache) Record(key string) (cache.Record, bool) {
	r, ok := c.records[key]
	if !ok {
		return cache.Record{}, false
	}
	out := cache.Record{Key: r.Keys[0], Below: r.Below, On: r.On, Over: r.Over, Name: r.Name, Created: r.Created}
	if r.Layer > 0 {
		out.Layers = []layer.Descriptor{c.layers[r.Layer-1]}
	}
	return out, true
}

// Open returns a reader of a layer, whose digest is verified. The caller closes it.
func (c *Cache) Open(ctx context.Context, b layer.Descriptor) (io.ReadCloser, error) {
	return c.backend.open(ctx, b)
}

// HasIndex reports whether the cache has the listing of a layer.
func (c *Cache) HasIndex(diffID layer.Digest) bool {
	_, ok := c.indexes[diffID]
	return ok
}

// Index returns the listing of a layer. It is untrusted.
func (c *Cache) Index(ctx context.Context, diffID layer.Digest) (*listing.Listing, error) {
	ref, ok := c.indexes[diffID]
	if !ok {
		return nil, fmt.Errorf("cache %s: the listing of layer %s: %w", c.Location, diffID, ErrNotFound)
	}
	raw := ref.Data
	if ref.Layer > 0 {
		var err error
		if raw, err = c.unpackIndex(ctx, c.layers[ref.Layer-1]); err != nil {
			return nil, fmt.Errorf("cache %s: the listing of layer %s: %w", c.Location, diffID, err)
		}
	}
	x, err := listing.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("cache %s: layer %s: %w", c.Location, diffID, err)
	}
	return x, nil
}
