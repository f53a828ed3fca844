package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/layout"
)

// Save writes an image of the store, under its names refs, as an archive of
// format docker or oci; that of several platforms as the latter only. Layers that the store never had come from their
// registry.
func (b *Builder) Save(ctx context.Context, refs []string, format string, out Output) error {
	var names []string
	var t store.Tagged
	for _, ref := range refs {
		one, err := b.Tagged(ref)
		if err != nil {
			return err
		}
		if len(names) > 0 && one.Digest() != t.Digest() {
			return fmt.Errorf("%s is another image than %s: save each to a file of its own", ref, refs[0])
		}
		if t = one; t.Ref != untagged+string(t.Digest()) {
			names = append(names, t.Ref)
		}
	}
	if t.Set != nil && format != "oci" {
		return fmt.Errorf("%s is an index of several platforms, and docker's archives have one: want --format oci", refs[0])
	}
	var from string
	if len(names) > 0 {
		from = names[0]
	}
	layers := b.layersOf(ctx, t, from)
	open := func(want layer.Blob) (io.ReadCloser, error) { return openAmong(ctx, layers, want) }
	return toFile(out, func(w io.Writer) error {
		switch {
		case t.Set != nil:
			return layout.WriteOCISet(w, names, *t.Set, open)
		case format == "oci":
			return layout.WriteOCI(w, names, t.Image, open)
		}
		return layout.WriteDocker(w, names, t.Image, open)
	})
}

func openAmong(ctx context.Context, layers []*worker.Layer, want layer.Blob) (io.ReadCloser, error) {
	for _, l := range layers {
		if blob, err := l.Blob(ctx); err != nil {
			return nil, err
		} else if blob.Digest == want.Digest {
			return l.Open(ctx)
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", want.Digest)
}

// Loaded is an image that came from an archive, with the names that it has in
// the store now.
type Loaded struct {
	Names []string
	Image layer.Image
}

// Load takes all images of an archive into the store: of docker's, or of an
// OCI layout, as a file or a directory. Images for other platforms than p are
// left out where an archive has several under one name.
func (b *Builder) Load(ctx context.Context, path string, p layer.Platform) ([]Loaded, error) {
	a, err := openArchive(path)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if p.OS == "" {
		p = layer.HostPlatform()
	}
	var all []Loaded
	for _, n := range a.Images {
		if skips(a.Images, n, p) {
			continue
		}
		one, err := b.load(ctx, a, n)
		if err != nil {
			return nil, fmt.Errorf("loading %s: %w", path, err)
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("loading %s: it has no image for %s", path, p)
	}
	return all, nil
}

// ErrNoArchive says of a file to load that it holds no images.
var ErrNoArchive = errors.New("it is neither a docker archive nor an OCI layout: it has neither manifest.json nor index.json")

// openArchive takes a docker archive by its manifest.json, and else an OCI
// layout.
func openArchive(path string) (*layout.Archive, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return layout.ReadOCI(path)
	}
	a, err := layout.ReadDocker(path)
	if err == nil {
		return a, nil
	}
	oci, ociErr := layout.ReadOCI(path)
	var form *layout.FormError
	switch noDocker, noOCI := errors.As(err, &form), errors.As(ociErr, &form); {
	case ociErr == nil:
		return oci, nil
	case noDocker && noOCI:
		return nil, ErrNoArchive
	case noDocker:
		return nil, ociErr
	case noOCI:
		return nil, err
	}
	return nil, fmt.Errorf("read %s as an archive of images: %w", path, errors.Unwrap(err)) // one trouble in both forms
}

// skips says whether another image of the archive, of the platform that is
// wanted, has the same name as n.
func skips(all []layout.Named, n layout.Named, p layer.Platform) bool {
	if p.Normalized().Matches(n.Platform) || len(n.Refs) == 0 {
		return false
	}
	for _, other := range all {
		for _, ref := range other.Refs {
			if ref == n.Refs[0] && p.Normalized().Matches(other.Platform) {
				return true
			}
		}
	}
	return false
}

func (b *Builder) load(ctx context.Context, a *layout.Archive, n layout.Named) (Loaded, error) {
	for _, blob := range n.Image.Layers {
		if ctx.Err() != nil {
			return Loaded{}, context.Cause(ctx)
		}
		if err := b.take(a, blob); err != nil {
			return Loaded{}, err
		}
	}
	one := Loaded{Image: n.Image}
	for _, ref := range n.Refs {
		name, err := registry.Normalize(ref)
		if err != nil {
			return Loaded{}, err
		}
		one.Names = append(one.Names, name)
	}
	if len(one.Names) == 0 {
		one.Names = []string{Untagged(n.Image)}
	}
	for _, name := range one.Names {
		if err := b.Store.Tag(name, n.Image); err != nil {
			return Loaded{}, err
		}
	}
	return one, nil
}

// take makes sure that the store has a layer of an archive.
func (b *Builder) take(a *layout.Archive, blob layer.Blob) error {
	if _, ok := b.Store.BlobSize(blob.Digest); ok {
		return b.Store.AddLayer(blob)
	}
	r, err := a.Open(blob)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := b.Store.PutBlob(blob.Digest, blob.Size, r); err != nil {
		return err
	}
	return b.Store.AddLayer(blob)
}
