package export

import (
	"context"
	"encoding/json"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/layer"
)

// Image is the image of one platform.
type Image struct {
	Config   dockerspec.DockerOCIImage // without layers; the new history entries lack times
	Platform layer.Platform            // names the image among those of several platforms
	Base     *layer.Image              // the base image; nil: scratch
	Epoch    *int64                    // time of the new history entries, Unix seconds; nil: that of their layers
	Files    *snapshot.Stack           // the layers
	Squash   Squash                    // the layers that were merged
	// OmitHistory leaves the history out, that of the base image too.
	OmitHistory bool

	// Finish, unless nil, completes the config when the layers are known.
	Finish func(ctx context.Context, config []byte, layers []layer.Descriptor) ([]byte, error)
}

// Squash is the kind of layers of an image that were merged.
type Squash int

// The zero value is none.
const (
	SquashNew Squash = iota + 1 // those on top of the base image's
	SquashAll
)

// blobs returns the blobs of the layers in a compression.
func (img *Image) blobs(ctx context.Context, c Compression) ([]layer.Descriptor, error) {
	layers := img.Files.Layers()
	blobs := make([]layer.Descriptor, len(layers))
	for i, l := range layers {
		b, err := l.Variant(ctx, c)
		if err != nil {
			return nil, err
		}
		blobs[i] = b
	}
	return blobs, nil
}

// config returns the config of the image with these layers.
func (img *Image) config(ctx context.Context, blobs []layer.Descriptor, now time.Time) ([]byte, error) {
	cfg := img.Config
	cfg.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: nil}
	for _, b := range blobs {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.Digest(b.DiffID))
	}
	var times []time.Time
	for _, l := range img.Files.Layers() {
		times = append(times, l.Created())
	}
	if err := img.setHistory(&cfg, times, now.UTC()); err != nil {
		return nil, err
	}
	if img.OmitHistory {
		cfg.History = nil
	}
	raw, err := json.Marshal(cfg)
	if err == nil && img.Finish != nil {
		raw, err = img.Finish(ctx, raw, blobs)
	}
	return raw, err
}

// Result is an image or, for several platforms, an index.
type Result struct {
	Image layer.Image  // of an index the default one
	Index *layer.Index // nil: a single image
}

// Digest returns the digest of the index or else of the image.
func (r Result) Digest() layer.Digest {
	if r.Index != nil {
		return r.Index.Digest
	}
	return r.Image.Digest
}

// size returns the size of the compressed layers in bytes.
func (r Result) size() int64 {
	if r.Index != nil {
		return layer.SizeOf(r.Index.Images...)
	}
	return layer.SizeOf(r.Image)
}

// assemble returns the image or index in each compression. All have the same configs,
// which list the uncompressed layers.
func (o *Options) assemble(ctx context.Context, images []*Image, now time.Time) (map[Compression]Result, error) {
	results := map[Compression]Result{}
	configs := make([][]byte, len(images))
	for _, c := range o.compressions() {
		children := make([]child, len(images))
		for i, img := range images {
			blobs, err := img.blobs(ctx, c)
			if err != nil {
				return nil, err
			}
			if configs[i] == nil {
				if configs[i], err = img.config(ctx, blobs, now); err != nil {
					return nil, err
				}
			}
			children[i] = child{platform: img.Platform, config: configs[i], layers: blobs}
		}
		var err error
		if results[c], err = o.manifests(children); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// child is a manifest to be made: an image and, in time, its attestations.
type child struct {
	platform layer.Platform
	config   []byte
	layers   []layer.Descriptor
}

// manifests makes the manifest of each child and, of several, the index.
func (o *Options) manifests(children []child) (Result, error) {
	var all []layer.Image
	for _, c := range children {
		manifest, descriptor := o.annotations(func(a Annotation) bool {
			return !a.Index && (a.Platform == nil || a.Platform.Normalized().Full() == c.platform.Full())
		})
		img, err := layer.NewImage(c.config, c.layers, manifest, o.DockerTypes)
		if err != nil {
			return Result{}, err
		}
		img.Annotations = descriptor
		all = append(all, img)
	}
	if len(all) == 1 && !o.AlwaysIndex {
		return Result{Image: all[0]}, nil
	}
	annotations, descriptor := o.annotations(func(a Annotation) bool { return a.Index })
	index, err := layer.NewIndex(all, annotations, o.DockerTypes)
	if err != nil {
		return Result{}, err
	}
	index.Annotations = descriptor
	return Result{index.Default(), &index}, nil
}
