package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// assembleAll makes each platform's image and, of several, the index.
func (j *job) assembleAll(ctx context.Context) error {
	var all []layer.Image
	for _, img := range j.images {
		if err := img.assemble(ctx); err != nil {
			return err
		}
		all = append(all, img.made)
	}
	main, err := j.together(all)
	if err != nil {
		return err
	}
	j.built.Image, j.built.Set = main.image, main.set
	j.formed = map[Form]formed{j.opt.Compression: main}
	for _, f := range j.forms()[1:] {
		if j.formed[f], err = j.reform(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// assemble makes the image: its config gets the layers' diff IDs and the times
// of its history, then the manifest lists the blobs.
func (img *image) assemble(ctx context.Context) error {
	blobs, err := img.blobs(ctx, img.opt.Compression)
	if err != nil {
		return err
	}
	cfg := img.planned.Config
	cfg.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: nil}
	for _, b := range blobs {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.Digest(b.DiffID))
	}
	if err := img.history(&cfg); err != nil {
		return err
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	if raw, err = img.inline(ctx, raw, blobs); err != nil {
		return err
	}
	img.made, err = img.of(raw, blobs)
	return err
}

// annotations gives those of a kind: for the document and for what points at it.
func (j *job) annotations(of func(Annotation) bool) (document, descriptor map[string]string) {
	for _, a := range j.opt.Annotations {
		if !of(a) {
			continue
		}
		to := &document
		if a.Descriptor {
			to = &descriptor
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[a.Name] = a.Value
	}
	return document, descriptor
}

// annotates tells whether an annotation is about the image.
func (img *image) annotates(a Annotation) bool {
	return !a.Index && (a.Platform == nil || a.Platform.Normalized().String() == img.platform().String())
}

// checkAnnotations refuses those for what is not built.
func (j *job) checkAnnotations() error {
	if j.opt.DockerTypes && len(j.opt.Annotations) > 0 {
		return fmt.Errorf("annotation %s: images of docker's media types have none: leave out oci-mediatypes=false", j.opt.Annotations[0].Name)
	}
	var built []string
	for _, img := range j.images {
		built = append(built, img.platform().String())
	}
	for _, a := range j.opt.Annotations {
		switch {
		case a.Index && len(j.images) == 1:
			return fmt.Errorf("annotation %s: an image of one platform has no index", a.Name)
		case a.Platform != nil && !slices.Contains(built, a.Platform.Normalized().String()):
			noun := "the image is"
			if len(built) > 1 {
				noun = "the images are"
			}
			return fmt.Errorf("annotation %s: it is for %s, but %s for %s", a.Name, a.Platform, noun, strings.Join(built, ", "))
		}
	}
	return nil
}

// platform is what the image is for.
func (img *image) platform() layer.Platform {
	c := img.planned.Config
	return layer.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}.Normalized()
}

// history gives every entry a time: that of its layer, or for entries without a
// layer that of the one before. The image was created when its last entry was.
func (img *image) history(cfg *dockerspec.DockerOCIImage) error {
	h := slices.Clone(cfg.History)
	inherited, missing, err := img.inherited()
	if err != nil {
		return err
	}
	h = slices.Insert(h, min(inherited, len(h)), missing...)
	inherited += len(missing)
	if at := img.planned.Epoch; at != nil {
		t := time.Unix(*at, 0).UTC()
		for i := inherited; i < len(h); i++ {
			h[i].Created = &t
		}
	} else {
		img.times(h, inherited)
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
func (img *image) times(h []ocispec.History, first int) {
	var last *time.Time
	n := 0
	for i := range h {
		if !h[i].EmptyLayer {
			if i >= first && n < len(img.layers) {
				if t := img.layers[n].Created(); !t.IsZero() {
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
		now := img.opt.Now.UTC()
		for i := first; i < len(h); i++ {
			h[i].Created = &now
		}
	}
}

// inherited counts the base image's history, and gives entries for those of its
// layers that its history leaves out.
func (img *image) inherited() (n int, missing []ocispec.History, err error) {
	if img.planned.Base == nil {
		return 0, nil, nil
	}
	var base dockerspec.DockerOCIImage
	if err := layer.Unmarshal(img.planned.Base.Config, &base); err != nil {
		return 0, nil, fmt.Errorf("reading the base image's config: %w", err)
	}
	layers := len(img.planned.Base.Layers)
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
