package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-build/cairn/builder/cache/object"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

// Bucket is a cache in a store of objects. Blobs are objects whose keys end with their
// digests; all caches in the bucket share them. The image is an object, which is
// replaced only if it is still the one that was read.
type Bucket struct {
	object.Store
	Name      string
	Blobs     string // prefix of the keys of blobs
	Manifests string // prefix of the keys of images

	Touch    time.Duration // age at which a blob that is still used gets a new time; 0: never
	Parallel int           // uploads at once; 0: the usual number
}

func (b *Bucket) String() string { return b.Store.String() + "/" + b.Manifests + b.Name }

// bucketBackend stores a cache or cache mounts in a bucket.
type bucketBackend struct {
	*Bucket
	kind string
	seen *seenObject
}

// seenObject is the image that was read last.
type seenObject struct {
	mu  sync.Mutex
	tag string
	img layer.Image
}

func (b *Bucket) backend(kind string) bucketBackend { return bucketBackend{b, kind, &seenObject{}} }

func (b bucketBackend) key() string                   { return b.Manifests + b.kind + "-" + b.Name }
func (b bucketBackend) blobKey(d layer.Digest) string { return b.Blobs + string(d) }

func (b bucketBackend) read(ctx context.Context) (layer.Image, error) {
	b.seen.mu.Lock()
	defer b.seen.mu.Unlock()
	body, info, err := b.Get(ctx, b.key(), b.seen.tag)
	if errors.Is(err, object.ErrUnchanged) {
		return b.seen.img, nil
	}
	b.seen.tag, b.seen.img = "", layer.Image{}
	if errors.Is(err, object.ErrNotFound) {
		return layer.Image{}, ErrNotFound
	}
	if err != nil {
		return layer.Image{}, err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, maxPair))
	if err != nil {
		return layer.Image{}, err
	}
	var p pair
	if err := json.Unmarshal(raw, &p); err != nil {
		return layer.Image{}, fmt.Errorf("%s/%s: %w", b.Store, b.key(), err)
	}
	img, err := layer.ParseImage("", p.Manifest, p.Config)
	if err == nil {
		b.seen.tag, b.seen.img = info.Tag, img
	}
	return img, err
}

func (b bucketBackend) open(ctx context.Context, d layer.Descriptor) (io.ReadCloser, error) {
	body, _, err := b.Get(ctx, b.blobKey(d.Digest), "")
	if err != nil {
		return nil, missing(err)
	}
	return layer.Verify(body, d.Digest, d.Size), nil
}

// missing makes the error of an object that does not exist that of a missing layer.
func missing(err error) error {
	if errors.Is(err, object.ErrNotFound) {
		return fmt.Errorf("%w: %w", err, registry.ErrNotFound)
	}
	return err
}

func (b bucketBackend) edit(context.Context) (func(), error) { return func() {}, nil }

func (b bucketBackend) current(ctx context.Context) (layer.Image, error) { return b.read(ctx) }

func (b bucketBackend) digest(ctx context.Context) (layer.Digest, error) {
	return digestOf(b.read(ctx))
}

// use finds a blob of the cache, and sets its time if it is old, for the sake of rules
// that delete old objects.
func (b bucketBackend) use(ctx context.Context, d layer.Digest) error {
	info, err := b.Stat(ctx, b.blobKey(d))
	if err == nil && b.Touch > 0 && !info.Modified.IsZero() && time.Since(info.Modified) > b.Touch {
		err = b.Store.Touch(ctx, b.blobKey(d), info)
	}
	return missing(err)
}

func (b bucketBackend) send(ctx context.Context, blobs []layer.Descriptor, from map[layer.Digest]Source) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(b.limit())
	for _, blob := range blobs {
		g.Go(func() error {
			err := b.use(ctx, blob.Digest)
			if !errors.Is(err, registry.ErrNotFound) {
				return err
			}
			return b.Put(ctx, b.blobKey(blob.Digest), object.Content{Size: blob.Size, SHA256: blob.Digest.Hex(), Open: from[blob.Digest].Open}, "")
		})
	}
	return g.Wait()
}

func (b bucketBackend) limit() int {
	if b.Parallel > 0 {
		return b.Parallel
	}
	return together
}

// write replaces the image that was read last. Before, it checks that the layers of that
// one still exist.
func (b bucketBackend) write(ctx context.Context, img layer.Image, from map[layer.Digest]Source) error {
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(b.limit())
	for _, l := range img.Layers {
		if _, ours := from[l.Digest]; !ours {
			g.Go(func() error { return b.use(within, l.Digest) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	raw, err := json.Marshal(pair{img.Manifest, img.Config})
	if err != nil {
		return err
	}
	b.seen.mu.Lock()
	require := b.seen.tag
	b.seen.mu.Unlock()
	if require == "" {
		require = object.Absent
	}
	err = b.Put(ctx, b.key(), object.Content{
		Size: int64(len(raw)), SHA256: layer.FromBytes(raw).Hex(),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(raw))), nil },
	}, require)
	if errors.Is(err, object.ErrChanged) {
		return errTaken
	}
	return err
}

// settle waits as with a registry, since some servers ignore the condition of a write.
func (b bucketBackend) settle(ctx context.Context, took time.Duration) error {
	return registryBackend{}.settle(ctx, took)
}
