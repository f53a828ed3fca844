package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/cairn-build/cairn/layer"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// assemble makes the image: its config gets the layers' diff IDs and the times
// of its history, then the manifest lists the blobs.
func (j *job) assemble(ctx context.Context) error {
	blobs := make([]layer.Blob, len(j.layers))
	for i, l := range j.layers {
		b, err := j.worker.Shipped(ctx, l)
		if err != nil {
			return err
		}
		blobs[i] = b
	}
	cfg := j.planned.Config
	cfg.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: nil}
	for _, b := range blobs {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.Digest(b.DiffID))
	}
	if err := j.history(&cfg); err != nil {
		return err
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	if raw, err = j.inline(ctx, raw, blobs); err != nil {
		return err
	}
	manifest, descriptor := j.annotations()
	j.built.Image, err = layer.NewImage(raw, blobs, manifest, j.opt.DockerTypes)
	j.built.Image.Annotations = descriptor
	return err
}

// annotations gives those for the manifest and those for what points at it.
func (j *job) annotations() (manifest, descriptor map[string]string) {
	for _, a := range j.opt.Annotations {
		to := &manifest
		if a.Descriptor {
			to = &descriptor
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[a.Name] = a.Value
	}
	return manifest, descriptor
}

// checkAnnotations refuses those for a platform that is not built.
func (j *job) checkAnnotations() error {
	if j.opt.DockerTypes && len(j.opt.Annotations) > 0 {
		return fmt.Errorf("annotation %s: images of docker's media types have none: leave out oci-mediatypes=false", j.opt.Annotations[0].Name)
	}
	c := j.planned.Config
	built := layer.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}.Normalized()
	for _, a := range j.opt.Annotations {
		if a.Platform != nil && a.Platform.Normalized().String() != built.String() {
			return fmt.Errorf("annotation %s: it is for %s, but the image is for %s", a.Name, a.Platform, built)
		}
	}
	return nil
}

// history gives every entry a time: that of its layer, or for entries without a
// layer that of the one before. The image was created when its last entry was.
func (j *job) history(cfg *dockerspec.DockerOCIImage) error {
	h := slices.Clone(cfg.History)
	inherited, missing, err := j.inherited()
	if err != nil {
		return err
	}
	h = slices.Insert(h, min(inherited, len(h)), missing...)
	inherited += len(missing)
	if at := j.planned.Epoch; at != nil {
		t := time.Unix(*at, 0).UTC()
		for i := inherited; i < len(h); i++ {
			h[i].Created = &t
		}
	} else {
		j.times(h, inherited)
	}
	cfg.History = h
	if cfg.Created == nil {
		for _, e := range h {
			if e.Created != nil {
				cfg.Created = e.Created
			}
		}
	}
	return nil
}

// times dates the entries from first on by the layers that they made.
func (j *job) times(h []ocispec.History, first int) {
	var last *time.Time
	n := 0
	for i := range h {
		if !h[i].EmptyLayer {
			if i >= first && n < len(j.layers) {
				if t := j.layers[n].Created(); !t.IsZero() {
					h[i].Created = &t
				}
			}
			n++
			if i >= first && last == nil { // metadata before the first new layer is as old as it
				for k := first; k < i; k++ {
					h[k].Created = h[i].Created
				}
			}
			if i >= first {
				last = h[i].Created
			}
		} else if i >= first && last != nil {
			h[i].Created = last
		}
	}
	if last == nil { // nothing but metadata: as old as the build
		now := j.opt.Now.UTC()
		for i := first; i < len(h); i++ {
			h[i].Created = &now
		}
	}
}

// inherited counts the base image's history, and gives entries for those of its
// layers that its history leaves out.
func (j *job) inherited() (n int, missing []ocispec.History, err error) {
	if j.planned.Base == nil {
		return 0, nil, nil
	}
	var base dockerspec.DockerOCIImage
	if err := json.Unmarshal(j.planned.Base.Config, &base); err != nil {
		return 0, nil, fmt.Errorf("reading the base image's config: %w", err)
	}
	layers := len(j.planned.Base.Layers)
	for _, h := range base.History {
		if !h.EmptyLayer {
			layers--
		}
	}
	for ; layers > 0; layers-- {
		missing = append(missing, ocispec.History{Created: base.Created, CreatedBy: "layer of the base image"})
	}
	return len(base.History), missing, nil
}

// imagePlatform reads an image's platform from its config.
func imagePlatform(img layer.Image) (layer.Platform, error) {
	var p layer.Platform
	err := json.Unmarshal(img.Config, &p)
	return p.Normalized(), err
}
