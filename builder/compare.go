package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compare"
	"github.com/cairn-build/cairn/layer/store"
)

// side is one of two things to compare: an image, or those of several platforms.
type side struct {
	ref   string
	image layer.Image
	set   *layer.Set
	open  func(context.Context, layer.Blob) (io.ReadCloser, error)
	close func() error
}

// Compare tells emit of each difference between what two references mean: an image
// of the store or else of its registry, docker://NAME of a registry,
// oci-layout://PATH[:TAG][@DIGEST], or the path of an archive or a layout, with
// [:TAG][@DIGEST] too. With a platform only the images for that are compared.
func (b *Builder) Compare(ctx context.Context, refs [2]string, p layer.Platform, emit func(compare.Difference) error) error {
	var sides [2]side
	for i, ref := range refs {
		s, err := b.side(ctx, ref)
		if err != nil {
			return err
		}
		defer s.close()
		if p.OS != "" {
			if err := s.only(p); err != nil {
				return err
			}
		}
		sides[i] = s
	}
	temp, err := b.Store.TempDir("compare-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	c := compare.Comparison{Temp: temp, Emit: emit}
	x, y := &sides[0], &sides[1]
	if x.set != nil && y.set != nil {
		return c.Sets(ctx, compare.Set{Set: *x.set, Open: x.open}, compare.Set{Set: *y.set, Open: y.open})
	}
	if x.set != nil || y.set != nil {
		if err := emit(compare.Difference{Part: "index", What: "kind", A: x.kind(), B: y.kind()}); err != nil {
			return err
		}
		if err := alike(x, y); err != nil {
			return err
		}
	}
	return c.Images(ctx, compare.Image{Image: x.image, Open: x.open}, compare.Image{Image: y.image, Open: y.open})
}

func (s *side) kind() string {
	if s.set == nil {
		return "an image"
	}
	return fmt.Sprintf("an index of %d images", len(s.set.Images))
}

// only leaves the image for a platform.
func (s *side) only(p layer.Platform) error {
	images := []layer.Image{s.image}
	if s.set != nil {
		images = s.set.Images
	}
	found, err := chosen(images, []layer.Platform{p})
	if err != nil {
		return fmt.Errorf("%s: %w", s.ref, err)
	}
	s.image, s.set = found[0], nil
	return nil
}

// alike takes from that of two that is an index the image for the other's platform.
func alike(x, y *side) error {
	if x.set == nil {
		x, y = y, x
	}
	p, err := y.image.Platform()
	if err != nil {
		return fmt.Errorf("%s: %w", y.ref, err)
	}
	return x.only(p)
}

func (b *Builder) side(ctx context.Context, ref string) (side, error) {
	if path, ok := strings.CutPrefix(ref, layoutScheme); ok {
		return archived(ref, path)
	}
	name, remote := strings.CutPrefix(ref, registryScheme)
	if !remote {
		if isPath(ref) {
			return archived(ref, ref)
		}
		t, err := b.Tagged(ref)
		if err == nil {
			return b.stored(ref, t), nil
		}
		if errors.Is(err, errAmbiguous) {
			return side{}, err
		}
		if path, _, _ := splitArchive(ref); exists(path) {
			return archived(ref, ref)
		}
	}
	full, err := b.Registry.Full(ctx, name)
	if err != nil {
		return side{}, err
	}
	s := side{ref: ref, close: func() error { return nil }}
	s.image, s.set, err = b.Registry.ResolveSet(ctx, full)
	s.open = func(ctx context.Context, l layer.Blob) (io.ReadCloser, error) {
		if f, err := b.Store.OpenVerified(l.Digest); err == nil {
			return f, nil
		}
		return b.Registry.OpenBlob(ctx, full, l)
	}
	return s, err
}

func (b *Builder) stored(ref string, t store.Tagged) side {
	return side{ref: ref, image: t.Image, set: t.Set, close: func() error { return nil },
		open: func(ctx context.Context, l layer.Blob) (io.ReadCloser, error) {
			return openAmong(ctx, b.layersOf(ctx, t, t.Ref), l)
		}}
}

// archived opens an archive or a layout.
func archived(ref, at string) (side, error) {
	path, tag, digest := splitArchive(at)
	a, err := openArchive(path)
	if err != nil {
		var missing *fs.PathError
		if errors.As(err, &missing) {
			err = missing.Err // the path is said
		}
		return side{}, fmt.Errorf("%s: %w", path, err)
	}
	s := side{ref: ref, close: a.Close}
	s.open = func(_ context.Context, l layer.Blob) (io.ReadCloser, error) { return a.Open(l) }
	if s.image, s.set, err = a.Lookup(tag, digest); err != nil {
		return s, errors.Join(fmt.Errorf("%s: %w", path, err), a.Close())
	}
	return s, nil
}

// splitArchive reads PATH[:TAG][@DIGEST]; what is there is a path as a whole.
func splitArchive(at string) (path, tag string, digest layer.Digest) {
	if exists(at) {
		return at, "", ""
	}
	path = at
	if i := strings.LastIndex(path, "@"); i >= 0 && layer.Digest(path[i+1:]).Validate() == nil {
		path, digest = path[:i], layer.Digest(path[i+1:])
	}
	if exists(path) {
		return path, "", digest
	}
	if i := strings.LastIndex(path, ":"); i >= 0 && exists(path[:i]) {
		path, tag = path[:i], path[i+1:]
	}
	return path, tag, digest
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isPath(ref string) bool {
	return strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, "./") || strings.HasPrefix(ref, "../")
}
