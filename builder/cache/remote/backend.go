package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/layout"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
)

// Source provides the bytes of a layer to upload.
type Source = registry.Source

// backend stores a cache, which is an image. read and current return ErrNotFound if
// there is none.
type backend interface {
	read(ctx context.Context) (layer.Image, error)
	open(ctx context.Context, b layer.Descriptor) (io.ReadCloser, error)
	// edit begins a change. It excludes other writers on this machine until done is
	// called.
	edit(ctx context.Context) (done func(), err error)
	// current is like read, from the location that write writes to, not a mirror.
	current(ctx context.Context) (layer.Image, error)
	// digest returns the digest of the current image, or "".
	digest(ctx context.Context) (layer.Digest, error)
	send(ctx context.Context, blobs []layer.Descriptor, from map[layer.Digest]Source) error
	write(ctx context.Context, img layer.Image, from map[layer.Digest]Source) error
	// settle waits until changes by concurrent writers, which began before ours ended,
	// would be visible. took is the duration of our change.
	settle(ctx context.Context, took time.Duration) error
}

func (w Location) backend(client *registry.Client, p layer.Platform) (backend, error) {
	if w.Service != nil {
		return w.Service.backend("cairn-cache"), nil
	}
	if w.Bucket != nil {
		return w.Bucket.backend("cairn-cache"), nil
	}
	if w.Dir != "" {
		return w.layout(cacheImage), nil
	}
	if _, err := reference.Parse(w.Ref); err != nil {
		return nil, err
	}
	return registryBackend{client: client, ref: w.Ref, platform: p}, nil
}

// registryBackend stores a cache in a registry.
type registryBackend struct {
	client   *registry.Client
	ref      string
	platform layer.Platform
}

func (h registryBackend) read(ctx context.Context) (layer.Image, error) {
	img, err := h.client.Resolve(ctx, h.ref, h.platform)
	if errors.Is(err, registry.ErrNotFound) {
		err = ErrNotFound
	}
	return img, err
}

func (h registryBackend) open(ctx context.Context, b layer.Descriptor) (io.ReadCloser, error) {
	return h.client.OpenBlob(ctx, h.ref, b)
}

func (h registryBackend) edit(context.Context) (func(), error) { return func() {}, nil }

func (h registryBackend) current(ctx context.Context) (layer.Image, error) {
	push, err := h.client.NewPush(h.ref)
	if err != nil {
		return layer.Image{}, err
	}
	img, err := push.Current(ctx)
	if errors.Is(err, registry.ErrNotFound) {
		err = ErrNotFound
	}
	return img, err
}

func (h registryBackend) digest(ctx context.Context) (layer.Digest, error) {
	push, err := h.client.NewPush(h.ref)
	if err != nil {
		return "", err
	}
	d, err := push.CurrentDigest(ctx)
	if errors.Is(err, registry.ErrNotFound) {
		return "", nil
	}
	return d, err
}

func (h registryBackend) send(ctx context.Context, blobs []layer.Descriptor, from map[layer.Digest]Source) error {
	push, err := h.client.NewPush(h.ref)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(together)
	for _, b := range blobs {
		g.Go(func() error { return push.Blob(ctx, b, from[b.Digest], nil) })
	}
	return g.Wait()
}

func (h registryBackend) write(ctx context.Context, img layer.Image, _ map[layer.Digest]Source) error {
	push, err := h.client.NewPush(h.ref)
	if err != nil {
		return err
	}
	return push.Image(ctx, img)
}

// together is the number of concurrent requests of a writer.
const together = 8

const (
	shortestWait = 20 * time.Millisecond
	longestWait  = 2 * time.Second
)

func (h registryBackend) settle(ctx context.Context, took time.Duration) error {
	select {
	case <-time.After(min(max(2*took, shortestWait), longestWait)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// layoutBackend stores a cache in an OCI image layout.
type layoutBackend struct {
	dir, name string
	fixed     layer.Digest // of the manifest to read; "": that with the name
}

func (w Location) layout(image string) layoutBackend {
	return layoutBackend{w.Dir, image + ":" + cmp.Or(w.Tag, "latest"), w.Digest}
}

// cacheImage is the name of the cache among other images in the layout, without its tag.
const cacheImage = "docker.io/library/cairn-cache"

func (f layoutBackend) read(context.Context) (layer.Image, error) {
	if _, err := os.Stat(filepath.Join(f.dir, "index.json")); errors.Is(err, fs.ErrNotExist) {
		return layer.Image{}, ErrNotFound
	}
	a, err := layout.ReadOCI(f.dir)
	if err != nil {
		return layer.Image{}, err
	}
	defer a.Close()
	for _, img := range a.Images {
		if f.fixed == "" && slices.Contains(img.Refs, f.name) || f.fixed != "" && img.Image.Digest == f.fixed {
			return img.Image, nil
		}
	}
	if f.fixed != "" {
		return layer.Image{}, fmt.Errorf("it lists no manifest %s", f.fixed)
	}
	return layer.Image{}, ErrNotFound
}

func (f layoutBackend) open(_ context.Context, b layer.Descriptor) (io.ReadCloser, error) {
	a, err := layout.ReadOCI(f.dir)
	if err != nil {
		return nil, err
	}
	r, err := a.Open(b)
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return archived{r, a}, nil
}

// archived is a file in a layout that closes the layout with it.
type archived struct {
	io.ReadCloser
	a *layout.Archive
}

func (r archived) Close() error { return errors.Join(r.ReadCloser.Close(), r.a.Close()) }

func (f layoutBackend) edit(context.Context) (func(), error) {
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.Open(f.dir)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { dir.Close() }, nil
		}
		if err != unix.EINTR {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.dir, err), dir.Close())
		}
	}
}

func (f layoutBackend) current(ctx context.Context) (layer.Image, error) { return f.read(ctx) }

func (f layoutBackend) digest(ctx context.Context) (layer.Digest, error) {
	return digestOf(f.read(ctx))
}

func (f layoutBackend) send(context.Context, []layer.Descriptor, map[layer.Digest]Source) error {
	return nil
}

func (f layoutBackend) write(ctx context.Context, img layer.Image, from map[layer.Digest]Source) error {
	return layout.WriteOCIDir(f.dir, []string{f.name}, img, func(b layer.Descriptor) (io.ReadCloser, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if s, ok := from[b.Digest]; ok {
			return s.Open()
		}
		return f.open(ctx, b)
	})
}

func (f layoutBackend) settle(context.Context, time.Duration) error { return nil }

// digestOf returns the digest of an image that was read, or "" if there is none yet.
func digestOf(img layer.Image, err error) (layer.Digest, error) {
	if errors.Is(err, ErrNotFound) {
		return "", nil
	}
	return img.Digest, err
}
