package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

// CacheMount is the content of a RUN --mount=type=cache, as an archive.
type CacheMount struct {
	Key    string // in the store
	ID     string // in the Dockerfile
	Blob   layer.Descriptor
	Source Source
}

// CacheMounts are cache mounts that were exported as an image. Each is a layer; the
// field "cairn.mounts" of the config lists them.
type CacheMounts struct {
	Location
	backend backend
	layers  []layer.Descriptor
	list    []mountRef
}

type mountRef struct {
	Key   string `json:"key"` // hex of the SHA-256 of CacheMount.Key
	ID    string `json:"id"`
	Layer int    `json:"layer"`
	Used  int64  `json:"used"`
}

type mountList struct {
	Version int        `json:"version"`
	List    []mountRef `json:"folders"`
}

const (
	mountsField    = "cairn.mounts"
	mountsImage    = "docker.io/library/cairn-mounts"
	maxMounts      = 1000
	mountsVersion  = 1
	mountsKeptDays = 30
)

// ReadCacheMounts reads the list of cache mounts at a location. It returns
// ErrNotFound if there is none.
func ReadCacheMounts(ctx context.Context, client *registry.Client, w Location) (*CacheMounts, error) {
	within, cancel := w.limit(ctx)
	defer cancel()
	at, err := w.mounts(client)
	if err == nil {
		var img layer.Image
		if img, err = at.read(within); err == nil {
			return newCacheMounts(w, at, img)
		}
		err = overdue(within, err)
	}
	return nil, fmt.Errorf("cache mounts of %s: %w", w, err)
}

func (w Location) mounts(client *registry.Client) (backend, error) {
	if w.Service != nil {
		return w.Service.backend("cairn-mounts"), nil
	}
	if w.Bucket != nil {
		return w.Bucket.backend("cairn-mounts"), nil
	}
	if w.Dir != "" {
		return w.layout(mountsImage), nil
	}
	return w.backend(client, layer.HostPlatform())
}

func newCacheMounts(w Location, at backend, img layer.Image) (*CacheMounts, error) {
	var c struct {
		Mounts *mountList `json:"cairn.mounts"`
	}
	if err := json.Unmarshal(img.Config, &c); err != nil {
		return nil, err
	}
	if c.Mounts == nil || c.Mounts.Version != mountsVersion {
		return nil, fmt.Errorf("cache mounts of %s: %w", w, ErrNotFound)
	}
	list := c.Mounts.List
	if len(list) > maxMounts {
		return nil, fmt.Errorf("cache mounts of %s: too many: %d, at most %d are allowed", w, len(list), maxMounts)
	}
	for i, f := range list {
		if !isKey(f.Key) || f.Layer < 1 || f.Layer > len(img.Layers) {
			return nil, fmt.Errorf("cache mounts of %s: invalid entry %d: key %.100q, layer %d of %d", w, i, f.Key, f.Layer, len(img.Layers))
		}
		list[i].ID = printable(f.ID)
	}
	return &CacheMounts{w, at, img.Layers, list}, nil
}

func mountKey(key string) string { return layer.FromBytes([]byte(key)).Hex() }

// Open returns a reader of the archive of the cache mount with a key. The archive is
// compressed, and its digest is verified. ok is false if there is none. The caller
// closes r.
func (f *CacheMounts) Open(ctx context.Context, key string) (r io.ReadCloser, b layer.Descriptor, ok bool, err error) {
	key = mountKey(key)
	i := slices.IndexFunc(f.list, func(r mountRef) bool { return r.Key == key })
	if i < 0 {
		return nil, b, false, nil
	}
	b = f.layers[f.list[i].Layer-1]
	r, err = f.backend.open(ctx, b)
	if err != nil {
		err = fmt.Errorf("cache mounts of %s: %w", f.Location, err)
	}
	return r, b, true, err
}

// WriteCacheMounts exports cache mounts to a location. Others at the location are
// kept.
func WriteCacheMounts(ctx context.Context, client *registry.Client, w Location, mounts []CacheMount) error {
	ctx, cancel := w.limit(ctx)
	defer cancel()
	at, err := w.mounts(client)
	if err == nil {
		err = overdue(ctx, writeCacheMounts(ctx, at, w, mounts))
	}
	if err != nil {
		return fmt.Errorf("cache mounts of %s: %w", w, err)
	}
	return nil
}

func writeCacheMounts(ctx context.Context, at backend, w Location, mounts []CacheMount) error {
	done, err := at.edit(ctx)
	if err != nil {
		return err
	}
	defer done()
	for others := (rivals{}); ; {
		old, was, err := oldCacheMounts(ctx, at, w)
		if err != nil {
			return err
		}
		img, from, err := old.with(mounts, today())
		if err != nil || img.Digest == was {
			return err
		}
		ok, err := replaceCacheMounts(ctx, at, w, img, from, was, mounts)
		if ok || err != nil {
			return err
		}
		if err := others.wait(ctx); err != nil {
			return err
		}
	}
}

// oldCacheMounts reads the current cache mounts. An image of another kind is an
// error.
func oldCacheMounts(ctx context.Context, at backend, w Location) (*CacheMounts, layer.Digest, error) {
	img, err := at.current(ctx)
	if errors.Is(err, ErrNotFound) {
		return &CacheMounts{}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	f, err := newCacheMounts(w, at, img)
	if errors.Is(err, ErrNotFound) && !strings.Contains(string(img.Config), `"`+mountsField+`"`) {
		return nil, "", errors.New("the image there has no cache mounts: choose another name")
	}
	if err != nil {
		return &CacheMounts{}, img.Digest, nil
	}
	return f, img.Digest, nil
}

// with returns the image in which mounts replace those with the same keys, and the
// sources of its new layers.
func (f *CacheMounts) with(mounts []CacheMount, today int64) (layer.Image, map[layer.Digest]Source, error) {
	var layers []layer.Descriptor
	var list []mountRef
	from := map[layer.Digest]Source{}
	add := func(r mountRef, b layer.Descriptor) {
		i := slices.IndexFunc(layers, func(have layer.Descriptor) bool { return have.Digest == b.Digest })
		if i < 0 {
			i = len(layers)
			layers = append(layers, b)
		}
		r.Layer = i + 1
		list = append(list, r)
	}
	for _, m := range mounts {
		from[m.Blob.Digest] = m.Source
		add(mountRef{Key: mountKey(m.Key), ID: printable(m.ID), Used: today}, bareDescriptor(m.Blob))
	}
	for _, r := range f.list {
		if today-r.Used <= mountsKeptDays && !slices.ContainsFunc(list, func(have mountRef) bool { return have.Key == r.Key }) {
			add(r, f.layers[r.Layer-1])
		}
	}
	config, err := configOf(mountsField, mountList{mountsVersion, list}, layers)
	if err != nil {
		return layer.Image{}, nil, err
	}
	img, err := layer.NewImage(config, layers, nil, false)
	return img, from, err
}

// replaceCacheMounts writes img if the digest there is still was. It reports whether
// img is there now, or a later one with the same cache mounts. It is false if another
// writer interfered.
func replaceCacheMounts(ctx context.Context, at backend, w Location, img layer.Image, from map[layer.Digest]Source, was layer.Digest, ours []CacheMount) (bool, error) {
	var blobs []layer.Descriptor
	for _, f := range ours {
		blobs = append(blobs, f.Blob)
	}
	if err := at.send(ctx, blobs, from); err != nil {
		return false, err
	}
	begin := time.Now()
	if now, err := at.digest(ctx); err != nil || now != was {
		return false, err
	}
	if err := at.write(ctx, img, from); err != nil {
		return false, taken(err)
	}
	if err := at.settle(ctx, time.Since(begin)); err != nil {
		return false, err
	}
	if now, err := at.digest(ctx); err != nil || now == img.Digest {
		return err == nil, err
	}
	return kept(ctx, at, time.Since(begin), func() (bool, layer.Digest, error) {
		next, digest, err := oldCacheMounts(ctx, at, w)
		return err == nil && next.has(ours), digest, err
	})
}

// has reports whether f has cache mounts with the keys of all mounts.
func (f *CacheMounts) has(mounts []CacheMount) bool {
	for _, m := range mounts {
		key := mountKey(m.Key)
		if !slices.ContainsFunc(f.list, func(r mountRef) bool { return r.Key == key }) {
			return false
		}
	}
	return true
}
