// Package compare says where two images differ: in the documents that describe
// them, and in their layers path by path.
//
// A layer is read once, as a stream. What its tar says of each path is sorted in
// pieces that are kept in files, and two such listings are merged; so it takes no
// more memory for a layer of a million files than for one of a thousand.
package compare

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/layer"
)

// Difference is one thing in which two images differ. A and B are what it is in
// either, as people read it; "" if it is not there.
type Difference struct {
	Platform string `json:"platform,omitempty"` // of several, that of the image
	Part     string `json:"part"`               // index, manifest, config, history or layer
	Layer    int    `json:"layer,omitempty"`    // its number, from 1
	Step     string `json:"step,omitempty"`     // what made the layer
	Path     string `json:"path,omitempty"`     // in the layer
	What     string `json:"what"`               // the field or the attribute
	A        string `json:"a,omitempty"`
	B        string `json:"b,omitempty"`
}

// Image is an image to compare.
type Image struct {
	layer.Image
	// Open gives a layer as the image has it, compressed. It is called for layers
	// whose content differs.
	Open func(context.Context, layer.Blob) (io.ReadCloser, error)
}

// Comparison is what is asked for.
type Comparison struct {
	Temp string                 // a folder for files, which are removed
	Emit func(Difference) error // is told of each difference, in order

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

// Sets compares the images of several platforms, each with its like.
func (c Comparison) Sets(ctx context.Context, a, b Set) error {
	if a.Digest == b.Digest {
		return nil
	}
	told := c.counting()
	index := part{told.Comparison, Difference{Part: "index"}}
	if err := index.documents(without(a.Index, "manifests"), without(b.Index, "manifests")); err != nil {
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

// Set is the images of several platforms to compare.
type Set struct {
	layer.Set
	Open func(context.Context, layer.Blob) (io.ReadCloser, error)
}

// entry is an image with what it is called in an index.
type entry struct {
	layer.Image
	name string
}

// named calls images by their platforms, and by numbers where several have one.
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

// members compares what the indexes say of their images, and in which order.
func (c *Comparison) members(a, b Set) error {
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

// layers compares the layers, each with its like.
func (c *Comparison) layers(ctx context.Context, a, b Image) error {
	as, bs := a.Layers, b.Layers
	aSteps, bSteps := steps(a.Config), steps(b.Config)
	for _, p := range align(len(as), len(bs), func(i, j int) bool { return as[i].DiffID == bs[j].DiffID }) {
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
	return nil
}

// blob is a layer to compare.
type blob struct {
	layer.Blob
	open func(context.Context, layer.Blob) (io.ReadCloser, error)
}

func summary(b layer.Blob) string { return fmt.Sprintf("%s, %d bytes", b.DiffID, b.Size) }

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

// isTar tells layers of files from what else may lie in an image, such as
// attestations.
func isTar(mediaType string) bool { return strings.Contains(mediaType, "tar") }

// pair is what lies at the same place of two lists; -1 for nothing.
type pair struct{ a, b int }

// align finds what of two lists belongs together: a longest common subsequence,
// and what lies between one by one.
func align(n, m int, same func(i, j int) bool) (out []pair) {
	if n*m > 1<<20 { // no image: hostile
		same = func(int, int) bool { return false }
		n, m = min(n, 1<<10), min(m, 1<<10)
	}
	long := make([][]int, n+1) // of the rest from i, j on
	for i := n; i >= 0; i-- {
		long[i] = make([]int, m+1)
		for j := m - 1; j >= 0 && i < n; j-- {
			if same(i, j) {
				long[i][j] = long[i+1][j+1] + 1
			} else {
				long[i][j] = max(long[i+1][j], long[i][j+1])
			}
		}
	}
	i, j := 0, 0
	between := func(toA, toB int) {
		for ; i < toA || j < toB; i, j = min(i+1, toA), min(j+1, toB) {
			p := pair{-1, -1}
			if i < toA {
				p.a = i
			}
			if j < toB {
				p.b = j
			}
			out = append(out, p)
		}
	}
	for x, y := 0, 0; ; {
		switch {
		case x == n || y == m:
			between(n, m)
			return out
		case same(x, y):
			between(x, y)
			out = append(out, pair{x, y})
			x, y = x+1, y+1
			i, j = x, y
		case long[x+1][y] >= long[x][y+1]:
			x++
		default:
			y++
		}
	}
}
