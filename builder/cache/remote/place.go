package remote

import (
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
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/layout"
)

// Source is where a writer has a layer's bytes from.
type Source = registry.Source

// place is where a cache lies. An image that is not there is ErrNone.
type place interface {
	read(ctx context.Context) (layer.Image, error)
	open(ctx context.Context, b layer.Blob) (io.ReadCloser, error)
	// edit begins a change: nobody else on this machine changes the place until
	// done is called.
	edit(ctx context.Context) (done func(), err error)
	// current is read, from where write goes to.
	current(ctx context.Context) (layer.Image, error)
	// digest is what lies there; "" is nothing.
	digest(ctx context.Context) (layer.Digest, error)
	send(ctx context.Context, blobs []layer.Blob, from map[layer.Digest]Source) error
	write(ctx context.Context, img layer.Image, from map[layer.Digest]Source) error
	// settle waits so long that another writer's change would show, which began
	// before ours ended. took is how long ours took.
	settle(ctx context.Context, took time.Duration) error
}

func (w Where) place(client *registry.Client, p layer.Platform) (place, error) {
	if w.Service != nil {
		return w.Service.place("cairn-cache"), nil
	}
	if w.Dir != "" {
		return folder{w.Dir, nameInFolder}, nil
	}
	if _, err := registry.ParseReference(w.Ref); err != nil {
		return nil, err
	}
	return hosted{client: client, ref: w.Ref, platform: p}, nil
}

// hosted is a cache in a registry.
type hosted struct {
	client   *registry.Client
	ref      string
	platform layer.Platform
}

func (h hosted) read(ctx context.Context) (layer.Image, error) {
	img, err := h.client.Resolve(ctx, h.ref, h.platform)
	if errors.Is(err, registry.ErrNotFound) {
		err = ErrNone
	}
	return img, err
}

func (h hosted) open(ctx context.Context, b layer.Blob) (io.ReadCloser, error) {
	return h.client.OpenBlob(ctx, h.ref, b)
}

func (h hosted) edit(context.Context) (func(), error) { return func() {}, nil }

func (h hosted) current(ctx context.Context) (layer.Image, error) {
	push, err := h.client.NewPush(h.ref)
	if err != nil {
		return layer.Image{}, err
	}
	img, err := push.Current(ctx)
	if errors.Is(err, registry.ErrNotFound) {
		err = ErrNone
	}
	return img, err
}

func (h hosted) digest(ctx context.Context) (layer.Digest, error) {
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

func (h hosted) send(ctx context.Context, blobs []layer.Blob, from map[layer.Digest]Source) error {
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

func (h hosted) write(ctx context.Context, img layer.Image, _ map[layer.Digest]Source) error {
	push, err := h.client.NewPush(h.ref)
	if err != nil {
		return err
	}
	return push.Image(ctx, img)
}

// together is how many requests a writer has on their way.
const together = 8

const (
	shortestWait = 20 * time.Millisecond
	longestWait  = 2 * time.Second
)

func (h hosted) settle(ctx context.Context, took time.Duration) error {
	select {
	case <-time.After(min(max(2*took, shortestWait), longestWait)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// folder is a cache in an OCI layout.
type folder struct{ dir, name string }

// nameInFolder is what the cache is called beside other images of the layout.
const nameInFolder = "docker.io/library/cairn-cache:latest"

func (f folder) read(context.Context) (layer.Image, error) {
	if _, err := os.Stat(filepath.Join(f.dir, "index.json")); errors.Is(err, fs.ErrNotExist) {
		return layer.Image{}, ErrNone
	}
	a, err := layout.ReadOCI(f.dir)
	if err != nil {
		return layer.Image{}, err
	}
	defer a.Close()
	for _, img := range a.Images {
		if slices.Contains(img.Refs, f.name) {
			return img.Image, nil
		}
	}
	return layer.Image{}, ErrNone
}

func (f folder) open(_ context.Context, b layer.Blob) (io.ReadCloser, error) {
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

// archived closes the layout together with a file of it.
type archived struct {
	io.ReadCloser
	a *layout.Archive
}

func (r archived) Close() error { return errors.Join(r.ReadCloser.Close(), r.a.Close()) }

func (f folder) edit(context.Context) (func(), error) {
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

func (f folder) current(ctx context.Context) (layer.Image, error) { return f.read(ctx) }

func (f folder) digest(ctx context.Context) (layer.Digest, error) {
	img, err := f.read(ctx)
	if errors.Is(err, ErrNone) {
		return "", nil
	}
	return img.Digest, err
}

func (f folder) send(context.Context, []layer.Blob, map[layer.Digest]Source) error { return nil }

func (f folder) write(ctx context.Context, img layer.Image, from map[layer.Digest]Source) error {
	return layout.WriteOCIDir(f.dir, []string{f.name}, img, func(b layer.Blob) (io.ReadCloser, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if s, ok := from[b.Digest]; ok {
			return s.Open()
		}
		return f.open(ctx, b)
	})
}

func (f folder) settle(context.Context, time.Duration) error { return nil }
