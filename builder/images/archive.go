package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/layout"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/reference"
)

// Save writes the image or index that refs name as an archive of format docker or oci.
// path is a file or "-" for stdout. Layers that the
// store does not have come from their registry.
func (m *Manager) Save(ctx context.Context, refs []string, format, path string, stdout io.Writer) error {
	var names []string
	var t store.Tagged
	for i, ref := range refs {
		one, err := m.Lookup(ref)
		if err != nil {
			return err
		}
		if i > 0 && one.Digest() != t.Digest() {
			return fmt.Errorf("%s and %s are different images: save each to a file of its own", refs[0], ref)
		}
		if t = one; t.Ref != export.Untagged(t.Digest()) {
			names = append(names, t.Ref)
		}
	}
	var from string
	if len(names) > 0 {
		from = names[0]
	}
	layers := m.layers(ctx, t, from)
	open := func(want layer.Descriptor) (io.ReadCloser, error) { return openLayer(ctx, layers, want) }
	return export.WriteFile(path, stdout, func(w io.Writer) error {
		switch {
		case t.Index != nil && format == "oci":
			return layout.WriteOCIIndex(w, names, *t.Index, open)
		case t.Index != nil:
			return layout.WriteDockerIndex(w, names, *t.Index, open)
		case format == "oci":
			return layout.WriteOCI(w, names, t.Image, open)
		}
		return layout.WriteDocker(w, names, t.Image, open)
	})
}

// Loaded is an image or index from an archive, with its names in the store.
type Loaded struct {
	Names []string
	Image layer.Image
	Index *layer.Index // nil: an image
}

// Digest returns the digest of the index or else of the image.
func (l Loaded) Digest() layer.Digest { return export.Result{Image: l.Image, Index: l.Index}.Digest() }

// Load loads all images of a Docker archive or an OCI layout, a file or a directory,
// into the store. If several images have the same name, Load takes the best one for
// platform p, and it is an error if none is; the zero Platform means this machine's.
func (m *Manager) Load(ctx context.Context, path string, p layer.Platform) ([]Loaded, error) {
	a, err := openArchive(path)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if p.OS == "" {
		p = layer.HostPlatform()
	}
	chosen, err := choose(a.Images, p)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", path, err)
	}
	var all []Loaded
	for _, n := range chosen {
		one, err := m.load(ctx, a, layout.Entry{Refs: n.Refs, Image: n.Image})
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

// LoadAll is Load for the images of all platforms: of several with one name it keeps the
// index.
func (m *Manager) LoadAll(ctx context.Context, path string) ([]Loaded, error) {
	a, err := openArchive(path)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	entries, err := a.Entries()
	if errors.Is(err, fs.ErrNotExist) { // a docker archive, which has no index
		for _, n := range a.Images {
			entries = append(entries, layout.Entry{Refs: n.Refs, Image: n.Image})
		}
		err = nil
	}
	var all []Loaded
	for _, e := range entries {
		var one Loaded
		if one, err = m.load(ctx, a, e); err != nil {
			break
		}
		all = append(all, one)
	}
	if err == nil && len(all) == 0 {
		err = errors.New("it has no image")
	}
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", path, err)
	}
	return all, nil
}

// ErrNotArchive is the error of a file without images.
var ErrNotArchive = errors.New("it is neither a Docker archive nor an OCI layout: it has neither manifest.json nor index.json")

// openArchive opens a Docker archive if there is a manifest.json, unless it is an OCI
// layout that has more images, and otherwise an OCI layout.
func openArchive(path string) (*layout.Archive, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return layout.ReadOCI(path)
	}
	a, err := layout.ReadDocker(path)
	oci, ociErr := layout.ReadOCI(path)
	switch {
	case err == nil && ociErr == nil && len(oci.Images) > len(a.Images):
		return oci, a.Close()
	case err == nil && ociErr == nil:
		return a, oci.Close()
	case err == nil:
		return a, nil
	}
	var form *layout.FormatError
	switch notDocker, notOCI := errors.As(err, &form), errors.As(ociErr, &form); {
	case ociErr == nil:
		return oci, nil
	case notDocker && notOCI:
		return nil, ErrNotArchive
	case notDocker:
		return nil, ociErr
	case notOCI:
		return nil, err
	}
	return nil, fmt.Errorf("read %s as an archive of images: %w", path, errors.Unwrap(err)) // the same problem in both formats
}

// choose returns the images to load for a platform: of those with the same name only
// the best one.
func choose(all []layout.Named, p layer.Platform) (chosen []layout.Named, err error) {
	for _, n := range all {
		if otherPlatform(all, n, p) {
			continue
		}
		if have := namesakes(all, n); len(have) > 1 && !runs(n, p) {
			return nil, fmt.Errorf("%s has no image for %s, but for %s: choose one with --platform", reference.Familiar(n.Refs[0]), p, strings.Join(have, ", "))
		}
		chosen = append(chosen, n)
	}
	return chosen, nil
}

// runs reports whether an image runs on a platform.
func runs(n layout.Named, p layer.Platform) bool {
	return slices.ContainsFunc(p.Compatible(), func(q layer.Platform) bool { return q.Matches(n.Platform) })
}

// namesakes returns the platforms of the images that have the first name of n.
func namesakes(all []layout.Named, n layout.Named) (platforms []string) {
	for _, other := range all {
		if len(n.Refs) > 0 && slices.Contains(other.Refs, n.Refs[0]) && !slices.Contains(platforms, other.Platform.Full()) {
			platforms = append(platforms, other.Platform.Full())
		}
	}
	return platforms
}

// otherPlatform reports whether another image with the name of n suits the platform
// better.
func otherPlatform(all []layout.Named, n layout.Named, p layer.Platform) bool {
	if len(n.Refs) == 0 {
		return false
	}
	for _, q := range p.Compatible() {
		if q.Matches(n.Platform) {
			return false
		}
		for _, other := range all {
			if slices.Contains(other.Refs, n.Refs[0]) && q.Matches(other.Platform) {
				return true
			}
		}
	}
	return false
}

// load loads an image or index of an archive.
func (m *Manager) load(ctx context.Context, a *layout.Archive, e layout.Entry) (Loaded, error) {
	one := Loaded{Image: e.Image, Index: e.Index}
	for _, img := range platforms(e.Image, e.Index) {
		for _, blob := range img.Layers {
			if ctx.Err() != nil {
				return Loaded{}, context.Cause(ctx)
			}
			if err := m.loadLayer(a, blob); err != nil {
				return Loaded{}, err
			}
		}
	}
	for _, ref := range e.Refs {
		name, err := reference.Normalize(ref)
		if err != nil {
			return Loaded{}, err
		}
		one.Names = append(one.Names, name)
	}
	if len(one.Names) == 0 {
		one.Names = []string{export.Untagged(one.Digest())}
	}
	for _, name := range one.Names {
		if err := export.Tag(m.Store, name, one.Image, one.Index); err != nil {
			return Loaded{}, err
		}
	}
	return one, nil
}

// loadLayer copies a layer of an archive into the store unless it is there.
func (m *Manager) loadLayer(a *layout.Archive, blob layer.Descriptor) error {
	if _, ok := m.Store.TouchBlob(blob.Digest); ok {
		return m.Store.AddLayer(blob)
	}
	r, err := a.Open(blob)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := m.Store.PutBlob(blob.Digest, blob.Size, r); err != nil {
		return err
	}
	return m.Store.AddLayer(blob)
}
