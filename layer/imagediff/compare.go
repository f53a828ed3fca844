// Package imagediff finds the differences of two images: in their manifests, configs
// and indexes, and in their layers path by path.
//
// A layer is read once, as a stream. The entries of its tar are sorted in pieces
// that are kept in temporary files, and the pieces of two layers are merged. So a
// layer of a million files takes no more memory than one of a thousand.
package imagediff

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/layer"
)

// Difference is one difference of two images. A and B are the values in either image
// as text, or "" if the image does not have it.
type Difference struct {
	Platform string `json:"platform,omitempty"` // of the image, if there are several
	Part     string `json:"part"`               // index, manifest, config, history or layer
	Layer    int    `json:"layer,omitempty"`    // number of the layer, from 1
	Step     string `json:"step,omitempty"`     // command that made the layer
	Path     string `json:"path,omitempty"`     // path in the layer
	What     string `json:"what"`               // name of the field or attribute
	A        string `json:"a,omitempty"`
	B        string `json:"b,omitempty"`
}

// Image is an image to compare.
type Image struct {
	layer.Image
	// Open returns the compressed bytes of a layer. It is called for layers with
	// different contents.
	Open func(context.Context, layer.Descriptor) (io.ReadCloser, error)
}

// Comparison has the options of a comparison.
type Comparison struct {
	Temp string                 // directory for temporary files, which are removed
	Emit func(Difference) error // is called for each difference, in order

	platform string
}

// Images compares two images.
func (c Comparison) Images(ctx context.Context, a, b Image) error {
	if a.Digest == b.Digest {
		return nil
	}
	told := c.counting()
	manifest := part{told.Comparison, Difference{Part: "manifest"}}
	if err := manifest.documents(without(a.Manifest, "layers"), without(b.Manifest, "layers")); err != nil {
		return err
	}
	if err := told.configs(a.Config, b.Config); err != nil {
		return err
	}
	if err := told.layers(ctx, a, b); err != nil || told.n > 0 {
		return err
	}
	return manifest.emit(otherBytes())
}

// Indexes compares two indexes and their images by name.
func (c Comparison) Indexes(ctx context.Context, a, b Index) error {
	if a.Digest == b.Digest {
		return nil
	}
	told := c.counting()
	index := part{told.Comparison, Difference{Part: "index"}}
	if err := index.documents(without(a.Raw, "manifests"), without(b.Raw, "manifests")); err != nil {
		return err
	}
	if err := told.members(a, b); err != nil {
		return err
	}
	if told.n == 0 {
		return index.emit(otherBytes())
	}
	rest := named(b.Images)
	for _, m := range named(a.Images) {
		i := position(rest, m.name)
		if i < 0 {
			continue
		}
		c.platform = m.name
		if err := c.Images(ctx, Image{m.Image, a.Open}, Image{rest[i].Image, b.Open}); err != nil {
			return err
		}
	}
	return nil
}

// Index is an image index to compare.
type Index struct {
	layer.Index
	Open func(context.Context, layer.Descriptor) (io.ReadCloser, error)
}

// entry is an image with its name in an index.
type entry struct {
	layer.Image
	name string
}

// named names images by their platforms, with a number after the first of each.
func named(images []layer.Image) (all []entry) {
	seen := map[string]int{}
	for _, img := range images {
		name := "unknown"
		if p, err := img.Platform(); err == nil {
			name = p.Full()
		}
		if seen[name]++; seen[name] > 1 {
			name += " " + strconv.Itoa(seen[name])
		}
		all = append(all, entry{img, name})
	}
	return all
}

func position(all []entry, name string) int {
	for i, e := range all {
		if e.name == name {
			return i
		}
	}
	return -1
}

// members compares the images that the indexes list, and their order.
func (c *Comparison) members(a, b Index) error {
	as, bs := named(a.Images), named(b.Images)
	var both [2][]string
	for _, m := range as {
		i := position(bs, m.name)
		if i < 0 {
			if err := c.Emit(Difference{Part: "index", What: "image for " + m.name, A: string(m.Digest)}); err != nil {
				return err
			}
			continue
		}
		both[0] = append(both[0], m.name)
		p := part{c, Difference{Part: "index", Platform: m.name}}
		if err := p.values("annotations", pairs(m.Annotations), pairs(bs[i].Annotations)); err != nil {
			return err
		}
		if err := p.text("media type", m.MediaType, bs[i].MediaType); err != nil {
			return err
		}
		if err := p.text("digest", string(m.Digest), string(bs[i].Digest)); err != nil {
			return err
		}
	}
	for _, m := range bs {
		if position(as, m.name) >= 0 {
			both[1] = append(both[1], m.name)
		} else if err := c.Emit(Difference{Part: "index", What: "image for " + m.name, B: string(m.Digest)}); err != nil {
			return err
		}
	}
	return part{c, Difference{Part: "index"}}.text("order", strings.Join(both[0], ", "), strings.Join(both[1], ", "))
}

// layers compares the matching layers.
func (c *Comparison) layers(ctx context.Context, a, b Image) error {
	as, bs := a.Layers, b.Layers
	aSteps, bSteps := steps(a.Config), steps(b.Config)
	matched, cut := align(len(as), len(bs), func(i, j int) bool { return as[i].DiffID == bs[j].DiffID })
	for _, p := range matched {
		at := part{c, Difference{Part: "layer"}}
		var err error
		switch {
		case p.b < 0:
			at.Layer, at.Step = p.a+1, nth(aSteps, p.a)
			err = at.emit("layer", summary(as[p.a]), "")
		case p.a < 0:
			at.Layer, at.Step = p.b+1, nth(bSteps, p.b)
			err = at.emit("layer", "", summary(bs[p.b]))
		default:
			at.Layer, at.Step = p.a+1, nth(aSteps, p.a)
			err = c.layer(ctx, at, blob{as[p.a], a.Open}, blob{bs[p.b], b.Open}, p)
		}
		if err != nil {
			return err
		}
	}
	return part{c, Difference{Part: "layer"}}.cut(cut, len(as), len(bs))
}

// blob is a layer to compare.
type blob struct {
	layer.Descriptor
	open func(context.Context, layer.Descriptor) (io.ReadCloser, error)
}

func summary(b layer.Descriptor) string { return fmt.Sprintf("%s, %d bytes", b.DiffID, b.Size) }

func (c *Comparison) layer(ctx context.Context, at part, a, b blob, p pair) error {
	if p.a != p.b {
		if err := at.emit("number", strconv.Itoa(p.a+1), strconv.Itoa(p.b+1)); err != nil {
			return err
		}
	}
	for _, f := range [...]struct{ what, a, b string }{
		{"digest", string(a.Digest), string(b.Digest)},
		{"diff ID", string(a.DiffID), string(b.DiffID)},
		{"size", strconv.FormatInt(a.Size, 10), strconv.FormatInt(b.Size, 10)},
		{"media type", a.MediaType, b.MediaType},
		{"urls", strings.Join(a.URLs, " "), strings.Join(b.URLs, " ")},
	} {
		if err := at.text(f.what, f.a, f.b); err != nil {
			return err
		}
	}
	if err := at.values("annotations", pairs(a.Annotations), pairs(b.Annotations)); err != nil {
		return err
	}
	if a.Digest == b.Digest || a.DiffID == b.DiffID || !isTar(a.MediaType) || !isTar(b.MediaType) {
		return nil
	}
	return c.content(ctx, at, a, b)
}

// isTar reports whether a layer is a tar of files. Others, such as attestations, may be
// in an image too.
func isTar(mediaType string) bool { return strings.Contains(mediaType, "tar") }
