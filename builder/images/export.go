package images

import (
	"context"
	"fmt"
	"io"

	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

// Export writes the files of a stored image as a tar archive, without layers and config.
// path is a file or "-" for stdout. The image is that of the platform p; the zero value
// is this machine's, or else the only one.
func (m *Manager) Export(ctx context.Context, ref string, p layer.Platform, path string, stdout io.Writer) error {
	t, err := m.Lookup(ref)
	if err != nil {
		return err
	}
	img, err := ForPlatform(t, ref, p)
	if err != nil {
		return err
	}
	return m.ExportImage(ctx, img, t.Ref, path, stdout)
}

// ExportImage is Export for an image that came from ref.
func (m *Manager) ExportImage(ctx context.Context, img layer.Image, ref, path string, stdout io.Writer) error {
	stack := m.Snapshots(ctx).StoredImage(img, ref)
	err := export.WriteFile(path, stdout, func(w io.Writer) error { return export.WriteTar(ctx, stack, w) })
	if err != nil {
		return fmt.Errorf("export %s: %w", ref, err)
	}
	return nil
}

// ForPlatform returns the image of a platform of t, which the user calls ref.
func ForPlatform(t store.Tagged, ref string, p layer.Platform) (layer.Image, error) {
	if p.OS == "" {
		return t.Image, nil
	}
	all := layer.Index{Images: []layer.Image{t.Image}}
	if t.Index != nil {
		all = *t.Index
	}
	img, ok := all.ForPlatform(p)
	if !ok {
		return img, fmt.Errorf("%s has no image for %s: cairn pull --platform %[2]s %[1]s fetches it if the registry has one", ref, p.Full())
	}
	return img, nil
}
