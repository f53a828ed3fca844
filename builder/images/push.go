package images

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
)

// Push pushes an image of the store to the registry in its name and returns the digest
// of the image or index. Layers that the store does not have are mounted or streamed
// from their registry.
func (m *Manager) Push(ctx context.Context, ref string) (layer.Digest, error) {
	t, err := m.Lookup(ref)
	if err != nil {
		return "", err
	}
	return m.push(ctx, t, t.Ref)
}

// PushAs is Push under another name.
func (m *Manager) PushAs(ctx context.Context, ref, as string) (layer.Digest, error) {
	t, err := m.Lookup(ref)
	if err != nil {
		return "", err
	}
	name, err := reference.Normalize(as)
	if err != nil {
		return "", err
	}
	return m.push(ctx, t, name)
}

func (m *Manager) push(ctx context.Context, t store.Tagged, name string) (layer.Digest, error) {
	push, err := m.Registry.NewPush(name)
	if err != nil {
		return "", err
	}
	v := m.Progress.Vertex("pushing " + name)
	v.Start()
	err = m.upload(ctx, push, t, name, v)
	v.Done(err)
	return t.Digest(), err
}

// upload uploads an image's layers in parallel, then its config and manifest.
func (m *Manager) upload(ctx context.Context, push *registry.Push, t store.Tagged, name string, v *progress.Vertex) error {
	if err := push.Check(ctx); err != nil {
		return err
	}
	g, each := errgroup.WithContext(ctx)
	snapshots := m.Snapshots(ctx)
	for _, l := range stored(snapshots, t, t.Ref) {
		g.Go(func() error {
			blob, err := l.Blob(each)
			if err != nil {
				return err
			}
			src := registry.Source{Open: func() (io.ReadCloser, error) { return l.Open(each) }}
			if l.Ref() != name {
				src.From = l.Ref()
			}
			return push.Blob(each, blob, src, export.ShowUpload(v, blob))
		})
	}
	if err := errors.Join(g.Wait(), snapshots.Wait()); err != nil {
		return err
	}
	if m.History == nil {
		return export.FinishPush(ctx, push, t.Image, t.Index)
	}
	if has, err := push.Refers(ctx, t.Digest()); has || err != nil {
		return err
	}
	byDigest, err := m.Registry.NewPushByDigest(name)
	if err != nil {
		return err
	}
	if err := export.FinishPush(ctx, byDigest, t.Image, t.Index); err != nil {
		return err
	}
	return export.SetTag(ctx, m.History, push, name, export.Result{Image: t.Image, Index: t.Index})
}

// Pull fetches an image with all its layers and tags it with its full name, which it
// returns. The zero Platform means this machine's.
func (m *Manager) Pull(ctx context.Context, ref string, p layer.Platform) (name string, d layer.Digest, err error) {
	if p.OS == "" {
		p = layer.HostPlatform()
	}
	return m.pull(ctx, ref, func(name string) (layer.Image, *layer.Index, error) {
		img, err := m.Resolve(ctx, name, p)
		return img, nil, err
	})
}

// PullAll is Pull for the images of all platforms, and keeps their index.
func (m *Manager) PullAll(ctx context.Context, ref string) (name string, d layer.Digest, err error) {
	return m.pull(ctx, ref, func(name string) (layer.Image, *layer.Index, error) {
		return m.Registry.ResolveIndex(ctx, name)
	})
}

func (m *Manager) pull(ctx context.Context, ref string, resolve func(name string) (layer.Image, *layer.Index, error)) (name string, d layer.Digest, err error) {
	if name, err = m.Registry.ResolveName(ctx, ref); err != nil {
		return "", "", err
	}
	v := m.Progress.Vertex("pulling " + name)
	v.Start()
	img, index, err := resolve(name)
	if err == nil {
		err = m.fetchAll(ctx, name, platforms(img, index), v)
	}
	if err == nil {
		err = export.Tag(m.Store, name, img, index)
	}
	v.Done(err)
	return name, export.Result{Image: img, Index: index}.Digest(), err
}

// fetchAll fetches the layers of images, each once.
func (m *Manager) fetchAll(ctx context.Context, name string, images []layer.Image, v *progress.Vertex) error {
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(4)
	seen := map[layer.Digest]bool{}
	for _, img := range images {
		for _, blob := range img.Layers {
			if seen[blob.Digest] {
				continue
			}
			seen[blob.Digest] = true
			g.Go(func() error {
				err := m.fetch(each, name, blob, func(n int64) { v.Status(string(blob.Digest), n, blob.Size) })
				if err == nil {
					v.StatusDone(string(blob.Digest))
				}
				return err
			})
		}
	}
	return g.Wait()
}

// fetch fetches a layer unless the store has it. show is called with the number of
// bytes received.
func (m *Manager) fetch(ctx context.Context, ref string, blob layer.Descriptor, show func(int64)) error {
	if _, ok := m.Store.TouchBlob(blob.Digest); ok {
		return m.Store.AddLayer(blob)
	}
	r, err := m.Registry.OpenBlob(ctx, ref, blob)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := m.Store.PutBlob(blob.Digest, blob.Size, progress.Counted(r, show)); err != nil {
		return fmt.Errorf("fetching layer %s of %s: %w", blob.Digest, ref, err)
	}
	return m.Store.AddLayer(blob)
}
