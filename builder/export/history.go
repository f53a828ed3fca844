package export

import (
	"fmt"
	"slices"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cairn-build/cairn/layer"
)

// setHistory sets the times of the history entries that this build added, and the time
// of the image, which is that of the last entry. layers has the times of all layers,
// bottom first; now is the time of an image without layers.
func (img *Image) setHistory(cfg *dockerspec.DockerOCIImage, layers []time.Time, now time.Time) error {
	inherited, missing, err := inheritedHistory(img.Base)
	if err != nil {
		return err
	}
	h := slices.Clone(cfg.History)
	h = slices.Insert(h, min(inherited, len(h)), missing...)
	inherited += len(missing)
	h, inherited = img.squashed(h, inherited)
	if img.Epoch != nil {
		at := time.Unix(*img.Epoch, 0).UTC()
		for i := inherited; i < len(h); i++ {
			h[i].Created = &at
		}
	} else if inherited < len(h) {
		setTimes(h[:inherited], h[inherited:], layers, now)
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

// squashed returns the history of an image whose layers were merged, and the number of its
// entries that are the base image's. The entry of the merged layer is the last one.
func (img *Image) squashed(h []ocispec.History, inherited int) ([]ocispec.History, int) {
	all := img.Squash == SquashAll
	merged := countLayers(h[inherited:])
	if all {
		merged = countLayers(h)
	}
	if img.Squash == 0 || merged <= 1 {
		return h, inherited
	}
	if all {
		h, inherited = h[inherited:], 0
	}
	h = slices.Clone(h)
	for i := inherited; i < len(h); i++ {
		h[i].EmptyLayer = true
	}
	return append(h, ocispec.History{CreatedBy: "squash", Comment: "layers of the build in one"}), inherited
}

func countLayers(h []ocispec.History) (n int) {
	for _, e := range h {
		if !e.EmptyLayer {
			n++
		}
	}
	return n
}

// setTimes sets the times of new history entries. An entry has the time of its layer or
// else that of the layer before it. Entries before the first layer have the time of
// that; without a layer all have the time now. layers has the times of the layers of
// the inherited entries and of the new ones; zero times are unknown.
func setTimes(inherited, added []ocispec.History, layers []time.Time, now time.Time) {
	for _, e := range inherited {
		if !e.EmptyLayer && len(layers) > 0 {
			layers = layers[1:]
		}
	}
	current := &now
	if i := slices.IndexFunc(layers, func(t time.Time) bool { return !t.IsZero() }); i >= 0 {
		current = &layers[i]
	}
	for i := range added {
		if !added[i].EmptyLayer && len(layers) > 0 {
			if !layers[0].IsZero() {
				current = &layers[0]
			}
			layers = layers[1:]
		}
		added[i].Created = current
	}
}

// inheritedHistory returns the number of the base image's history entries, and entries
// for its layers that the history leaves out.
func inheritedHistory(image *layer.Image) (n int, missing []ocispec.History, err error) {
	if image == nil {
		return 0, nil, nil
	}
	var base dockerspec.DockerOCIImage
	if err := layer.Unmarshal(image.Config, &base); err != nil {
		return 0, nil, fmt.Errorf("reading the base image's config: %w", err)
	}
	layers := len(image.Layers)
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
