package layer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Media types of OCI and docker images.
const (
	MediaTypeTar      = "application/vnd.oci.image.layer.v1.tar"
	MediaTypeGzip     = MediaTypeTar + "+gzip"
	MediaTypeZstd     = MediaTypeTar + "+zstd"
	MediaTypeConfig   = "application/vnd.oci.image.config.v1+json"
	MediaTypeManifest = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeIndex    = "application/vnd.oci.image.index.v1+json"

	DockerLayerTar     = "application/vnd.docker.image.rootfs.diff.tar"
	DockerLayerGzip    = DockerLayerTar + ".gzip"
	DockerLayerZstd    = DockerLayerTar + ".zstd"
	DockerForeignGzip  = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	DockerConfig       = "application/vnd.docker.container.image.v1+json"
	DockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"

	mediaTypeForeignGzip = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
)

// Blob is one layer in compressed form: what a registry keeps.
type Blob struct {
	MediaType   string            `json:"mediaType"`
	Digest      Digest            `json:"digest"` // of the compressed bytes
	Size        int64             `json:"size"`   // of the compressed bytes
	DiffID      Digest            `json:"diffID,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	URLs        []string          `json:"urls,omitempty"`
	Level       int               `json:"level,omitempty"` // that it was compressed at here; 0 is the default, or not known
}

// Image is one platform's image: raw manifest and config, and what they say
// of the layers.
type Image struct {
	MediaType    string `json:"mediaType"`
	Digest       Digest `json:"digest"`
	Manifest     []byte `json:"manifest"`
	ConfigDigest Digest `json:"configDigest"`
	Config       []byte `json:"config"`
	Layers       []Blob `json:"layers"` // bottom first, DiffID filled from the config

	// Annotations are those of the descriptor that points at the manifest, where
	// there is one.
	Annotations map[string]string `json:"annotations,omitempty"`

	// Described is the platform that this descriptor gives where that is not what
	// the config says.
	Described *Platform `json:"described,omitempty"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      Digest            `json:"digest"`
	Size        int64             `json:"size"`
	URLs        []string          `json:"urls,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// NewImage makes the manifest for a config and its layers, in OCI's or in
// docker's media types. The same arguments give the same bytes.
func NewImage(config []byte, layers []Blob, annotations map[string]string, docker bool) (Image, error) {
	m := manifest{
		SchemaVersion: 2,
		MediaType:     MediaTypeManifest,
		Config:        descriptor{MediaType: MediaTypeConfig, Digest: FromBytes(config), Size: int64(len(config))},
		Layers:        make([]descriptor, 0, len(layers)),
		Annotations:   annotations,
	}
	if docker {
		m.MediaType, m.Config.MediaType = DockerManifest, DockerConfig
	}
	layers = slices.Clone(layers)
	for i := range layers {
		b := &layers[i]
		b.MediaType = convertMediaType(b.MediaType, docker)
		m.Layers = append(m.Layers, descriptor{b.MediaType, b.Digest, b.Size, b.URLs, b.Annotations})
	}
	if err := fillDiffIDs(layers, config); err != nil {
		return Image{}, fmt.Errorf("image: %w", err)
	}
	raw, err := marshal(m)
	if err != nil {
		return Image{}, fmt.Errorf("image: %w", err)
	}
	return Image{
		MediaType: m.MediaType, Digest: FromBytes(raw), Manifest: raw,
		ConfigDigest: m.Config.Digest, Config: config, Layers: layers,
	}, nil
}

// ParseImage reads a manifest and its config, checking that sizes and digests
// hold and that the config's diff IDs are one for each layer. mediaType is
// what the registry said of the manifest; empty means that only the manifest
// itself says so.
func ParseImage(mediaType string, rawManifest, config []byte) (Image, error) {
	m, err := parseManifest(mediaType, rawManifest)
	if err != nil {
		return Image{}, fmt.Errorf("manifest: %w", err)
	}
	if int64(len(config)) != m.Config.Size {
		return Image{}, fmt.Errorf("image config: %d bytes, manifest says %d", len(config), m.Config.Size)
	}
	if d := FromBytes(config); d != m.Config.Digest {
		return Image{}, fmt.Errorf("image config: digest is %s, manifest says %s", d, m.Config.Digest)
	}
	img := Image{
		MediaType: m.MediaType, Digest: FromBytes(rawManifest), Manifest: rawManifest,
		ConfigDigest: m.Config.Digest, Config: config, Layers: m.blobs(),
	}
	if err := fillDiffIDs(img.Layers, config); err != nil {
		return Image{}, err
	}
	return img, nil
}

// ConfigOf returns the descriptor of the config that a manifest names, so that
// it can be fetched before ParseImage. The Blob's DiffID is empty.
func ConfigOf(mediaType string, rawManifest []byte) (Blob, error) {
	m, err := parseManifest(mediaType, rawManifest)
	if err != nil {
		return Blob{}, fmt.Errorf("manifest: %w", err)
	}
	return m.Config.blob(), nil
}

func parseManifest(mediaType string, raw []byte) (manifest, error) {
	// A document that is an index to one reader and an image to another is an
	// attack (CVE-2021-41190): "manifests" has no place here.
	var m struct {
		manifest
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := Unmarshal(raw, &m); err != nil {
		return manifest{}, err
	}
	if m.SchemaVersion != 2 {
		return manifest{}, fmt.Errorf("schema version %d is not supported", m.SchemaVersion)
	}
	if m.MediaType == "" {
		m.MediaType = mediaType
	}
	if mediaType != "" && m.MediaType != mediaType {
		return manifest{}, fmt.Errorf("it says it is %q, but was served as %q", m.MediaType, mediaType)
	}
	switch m.MediaType {
	case "":
		m.MediaType = MediaTypeManifest
	case MediaTypeManifest, DockerManifest:
	default:
		return manifest{}, fmt.Errorf("%q is not an image manifest", m.MediaType)
	}
	if m.Manifests != nil {
		return manifest{}, errors.New("both an image and an index")
	}
	return m.manifest, m.validate()
}

func (m manifest) validate() error {
	if err := m.Config.validate(); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	for i, l := range m.Layers {
		if err := l.validate(); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return nil
}

func (m manifest) blobs() []Blob {
	blobs := make([]Blob, 0, len(m.Layers))
	for _, l := range m.Layers {
		blobs = append(blobs, l.blob())
	}
	return blobs
}

func (d descriptor) blob() Blob {
	return Blob{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, URLs: d.URLs, Annotations: d.Annotations}
}

func (d descriptor) validate() error {
	if d.Size < 0 {
		return fmt.Errorf("size %d", d.Size)
	}
	return d.Digest.Validate()
}

// fillDiffIDs gives each layer the diff ID that config has for it; one that a
// layer has already must be the same.
func fillDiffIDs(layers []Blob, config []byte) error {
	var c struct {
		RootFS struct {
			DiffIDs []Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := Unmarshal(config, &c); err != nil {
		return fmt.Errorf("image config: %w", err)
	}
	ids := c.RootFS.DiffIDs
	if len(ids) != len(layers) {
		return fmt.Errorf("image config: %d diff IDs for %d layers", len(ids), len(layers))
	}
	for i := range layers {
		if err := ids[i].Validate(); err != nil {
			return fmt.Errorf("image config: diff ID of layer %d: %w", i, err)
		}
		if layers[i].DiffID != "" && layers[i].DiffID != ids[i] {
			return fmt.Errorf("image config: diff ID of layer %d is %s, the layer's own is %s", i, ids[i], layers[i].DiffID)
		}
		layers[i].DiffID = ids[i]
	}
	return nil
}

// convertMediaType gives a layer's media type in the family of its manifest:
// mixed families are refused by some registries.
func convertMediaType(t string, docker bool) string {
	pairs := [...][2]string{
		{MediaTypeGzip, DockerLayerGzip},
		{MediaTypeTar, DockerLayerTar},
		{MediaTypeZstd, DockerLayerZstd},
		{mediaTypeForeignGzip, DockerForeignGzip},
	}
	for _, p := range pairs {
		if docker && t == p[0] {
			return p[1]
		}
		if !docker && t == p[1] {
			return p[0]
		}
	}
	return t
}

// SameFormat tells whether two media types of layers, of either family, name one
// compression.
func SameFormat(a, b string) bool { return convertMediaType(a, false) == convertMediaType(b, false) }

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
