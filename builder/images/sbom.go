package images

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/sbom"
)

// Packages lists the packages of images.
type Packages struct{ Images *Manager }

// Of lists the packages of an image. The reference is as in [Manager.Diff]. The image of an
// index is that of the platform p; the zero value is this machine's, or else the first. Layers
// that the store does not have are read once from their registry and not kept.
func (l Packages) Of(ctx context.Context, ref string, p layer.Platform) (*sbom.Image, error) {
	s, err := l.Images.side(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if p.OS != "" {
		if err := s.selectPlatform(p); err != nil {
			return nil, err
		}
	} else if s.index != nil {
		s.image = s.index.Default()
	}
	if foreign := s.image.Foreign(); foreign != "" {
		return nil, fmt.Errorf("list the packages of %s: it is not an image, but %s", ref, foreign)
	}
	return l.OfImage(ctx, strings.TrimPrefix(ref, registryScheme), s.image, s.open)
}

// OfImage lists the packages of an image that the user calls name. Open opens its layers.
func (l Packages) OfImage(ctx context.Context, name string, img layer.Image, open func(context.Context, layer.Descriptor) (io.ReadCloser, error)) (*sbom.Image, error) {
	v, err := l.inventory(ctx, img, open)
	if err != nil {
		return nil, fmt.Errorf("list the packages of %s: %w", name, err)
	}
	return sbom.NewImage(name, img, v)
}

func (l Packages) inventory(ctx context.Context, img layer.Image, open func(context.Context, layer.Descriptor) (io.ReadCloser, error)) (*sbom.Inventory, error) {
	var diffIDs []layer.Digest
	for _, b := range img.Layers {
		diffIDs = append(diffIDs, b.DiffID)
	}
	key := fmt.Sprintf("packages of image %d %s", sbom.Version, layer.ChainID(diffIDs))
	v := &sbom.Inventory{}
	if l.hint(key, v) {
		return v, nil
	}
	all := make([]scanned, len(img.Layers))
	var group sync.WaitGroup
	turns := make(chan struct{}, max(runtime.GOMAXPROCS(0), 1))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for i, b := range img.Layers {
		group.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if ctx.Err() != nil {
				return
			}
			var err error
			if all[i], err = l.scan(ctx, b, open); err != nil {
				cancel(err)
			}
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var merger sbom.Merger
	for _, s := range all {
		merger.Add(s.packages, s.paths)
	}
	v, err := merger.Inventory()
	if err != nil {
		return nil, err
	}
	return v, l.putHint(key, v)
}

// scanned is a layer whose packages are known.
type scanned struct {
	packages *sbom.Layer
	paths    *listing.Listing
}

// scan returns the packages and the listing of a layer, which are kept by diff ID.
func (l Packages) scan(ctx context.Context, b layer.Descriptor, open func(context.Context, layer.Descriptor) (io.ReadCloser, error)) (s scanned, err error) {
	key := fmt.Sprintf("packages of layer %d %s", sbom.Version, b.DiffID)
	s.packages = &sbom.Layer{}
	if s.paths, err = l.Images.Store.Listing(b.DiffID); err == nil {
		if !sbom.Relevant(s.paths) || l.hint(key, s.packages) {
			return s, nil
		}
	}
	temp, err := l.Images.Store.TempDir("packages-*")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(temp)
	bound := l.Images.Limits.Layer(b)
	read := func(f func(io.Reader) error) error {
		raw, err := open(ctx, b)
		if err != nil {
			return err
		}
		defer raw.Close()
		return snapshot.Uncompress(b, raw, func(r io.Reader) error { return bound.Explain(f(r)) })
	}
	if s.packages, s.paths, err = sbom.Scan(read, sbom.Options{Limits: bound.Limits, Temp: temp}); err != nil {
		return s, err
	}
	if err := l.Images.Store.PutListing(b.DiffID, s.paths); err != nil {
		return s, err
	}
	return s, l.putHint(key, s.packages)
}

// hint reads a value that putHint stored.
func (l Packages) hint(key string, v any) bool {
	b, err := l.Images.Store.Hint(key)
	return err == nil && json.Unmarshal(b, v) == nil
}

func (l Packages) putHint(key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return l.Images.Store.PutHint(key, b)
}
