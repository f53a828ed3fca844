package sbom

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// Image is an image whose packages are listed.
type Image struct {
	Name     string // as the user calls it
	Digest   layer.Digest
	Platform layer.Platform
	Created  time.Time   // by its config; zero if that has no time
	Layers   []LayerInfo // the bottom one first
	*Inventory
}

// LayerInfo describes a layer of an image in a document.
type LayerInfo struct {
	Digest, DiffID layer.Digest
	Step           string // that made it, of the history of the image
}

// maxStep is the length of a step in documents.
const maxStep = 300

// NewImage describes an image whose packages were listed.
func NewImage(name string, img layer.Image, v *Inventory) (*Image, error) {
	p, err := img.Platform()
	if err != nil {
		return nil, err
	}
	var config struct {
		Created *time.Time `json:"created"`
		History []struct {
			CreatedBy  string `json:"created_by"`
			EmptyLayer bool   `json:"empty_layer"`
		} `json:"history"`
	}
	if err := json.Unmarshal(img.Config, &config); err != nil {
		return nil, fmt.Errorf("config of the image: %w", err)
	}
	out := &Image{Name: name, Digest: img.Digest, Platform: p, Inventory: v}
	if config.Created != nil {
		out.Created = *config.Created
	}
	var steps []string
	for _, h := range config.History {
		if !h.EmptyLayer {
			steps = append(steps, limitedStep(h.CreatedBy))
		}
	}
	for i, l := range img.Layers {
		info := LayerInfo{Digest: l.Digest, DiffID: l.DiffID}
		if len(steps) == len(img.Layers) { // otherwise the history does not match the layers
			info.Step = steps[i]
		}
		out.Layers = append(out.Layers, info)
	}
	return out, nil
}

func limitedStep(s string) string {
	s = strings.Join(strings.Fields(strings.TrimSuffix(s, " # buildkit")), " ")
	if len(s) > maxStep {
		s = strings.ToValidUTF8(s[:maxStep], "") + "..."
	}
	return s
}
