package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagediff"
	"github.com/cairn-build/cairn/layer/store"
)

const (
	layoutScheme   = "oci-layout://" // an OCI layout on this machine
	registryScheme = "docker://"     // the registry, even if the store has the image
)

// side is one of the two images or indexes that are compared.
type side struct {
	ref   string
	image layer.Image
	index *layer.Index // nil: a single image
	open  func(context.Context, layer.Descriptor) (io.ReadCloser, error)
	close func() error
}

// Diff calls emit with each difference between two images or indexes. A reference is an
// image of the store or else of its registry, docker://NAME for the registry only,
// oci-layout://PATH[:TAG][@DIGEST], or the path of an archive or OCI layout with
// optional [:TAG][@DIGEST]. With a platform, Diff compares only the images for it.
func (m *Manager) Diff(ctx context.Context, refs [2]string, p layer.Platform, emit func(imagediff.Difference) error) error {
	var sides [2]side
	for i, ref := range refs {
		s, err := m.side(ctx, ref)
		if err != nil {
			return err
		}
		defer s.close()
		if p.OS != "" {
			if err := s.selectPlatform(p); err != nil {
				return err
			}
		}
		sides[i] = s
	}
	temp, err := m.Store.TempDir("compare-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	c := imagediff.Comparison{Temp: temp, Emit: emit}
	x, y := &sides[0], &sides[1]
	if x.index != nil && y.index != nil {
		return c.Indexes(ctx, imagediff.Index{Index: *x.index, Open: x.open}, imagediff.Index{Index: *y.index, Open: y.open})
	}
	if x.index != nil || y.index != nil {
		if err := emit(imagediff.Difference{Part: "index", What: "kind", A: x.kind(), B: y.kind()}); err != nil {
			return err
		}
		if err := selectSamePlatform(x, y); err != nil {
			return err
		}
	}
	return c.Images(ctx, imagediff.Image{Image: x.image, Open: x.open}, imagediff.Image{Image: y.image, Open: y.open})
}

func (s *side) kind() string {
	if s.index == nil {
		return "an image"
	}
	return fmt.Sprintf("an index of %d images", len(s.index.Images))
}

// selectPlatform replaces an index by its image for a platform.
func (s *side) selectPlatform(p layer.Platform) error {
	found, err := forPlatforms(platforms(s.image, s.index), []layer.Platform{p})
	if err != nil {
		return fmt.Errorf("%s: %w", s.ref, err)
	}
	s.image, s.index = found[0], nil
	return nil
}

// selectSamePlatform replaces the one of two that is an index by its image for the
// other's platform.
func selectSamePlatform(x, y *side) error {
	if x.index == nil {
		x, y = y, x
	}
	p, err := y.image.Platform()
	if err != nil {
		return fmt.Errorf("%s: %w", y.ref, err)
	}
	return x.selectPlatform(p)
}

// side finds the image or index that a reference means.
func (m *Manager) side(ctx context.Context, ref string) (side, error) {
	if path, ok := strings.CutPrefix(ref, layoutScheme); ok {
		return archived(ref, path)
	}
	name, remote := strings.CutPrefix(ref, registryScheme)
	if !remote {
		if isPath(ref) {
			return archived(ref, ref)
		}
		t, err := m.Lookup(ref)
		if err == nil {
			return m.stored(ref, t), nil
		}
		if errors.Is(err, errAmbiguous) {
			return side{}, err
		}
		if path, _, _ := splitArchive(ref); exists(path) {
			return archived(ref, ref)
		}
	}
	full, err := m.Registry.ResolveName(ctx, name)
	if err != nil {
		return side{}, err
	}
	s := side{ref: ref, close: func() error { return nil }}
	s.image, s.index, err = m.Registry.ResolveIndex(ctx, full)
	s.open = func(ctx context.Context, l layer.Descriptor) (io.ReadCloser, error) {
		if f, err := m.Store.OpenVerified(l.Digest); err == nil {
			return f, nil
		}
		return m.Registry.OpenBlob(ctx, full, l)
	}
	return s, err
}

// stored is the side of an image of the store.
func (m *Manager) stored(ref string, t store.Tagged) side {
	return side{ref: ref, image: t.Image, index: t.Index, close: func() error { return nil },
		open: func(ctx context.Context, l layer.Descriptor) (io.ReadCloser, error) {
			return openLayer(ctx, m.layers(ctx, t, t.Ref), l)
		}}
}

// archived is the side of an archive or OCI layout.
func archived(ref, at string) (side, error) {
	path, tag, digest := splitArchive(at)
	a, err := openArchive(path)
	if err != nil {
		var missing *fs.PathError
		if errors.As(err, &missing) {
			err = missing.Err // the path is in the message already
		}
		return side{}, fmt.Errorf("%s: %w", path, err)
	}
	s := side{ref: ref, close: a.Close}
	s.open = func(_ context.Context, l layer.Descriptor) (io.ReadCloser, error) { return a.Open(l) }
	if s.image, s.index, err = a.Lookup(tag, digest); err != nil {
		return s, errors.Join(fmt.Errorf("%s: %w", path, err), a.Close())
	}
	return s, nil
}

// splitArchive splits PATH[:TAG][@DIGEST]. An existing path is not split.
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
