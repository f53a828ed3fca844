package layer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Media types of OCI and Docker images.
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

// Descriptor describes a layer in compressed form, as a registry holds it.
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      Digest            `json:"digest"` // of the compressed bytes
	Size        int64             `json:"size"`   // of the compressed bytes
	DiffID      Digest            `json:"diffID,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	URLs        []string          `json:"urls,omitempty"`
	Level       int               `json:"level,omitempty"` // the level it was compressed at here; 0 means the default or unknown
}

// Image is the image of one platform: its raw manifest and config, and the layers
// that they list.
type Image struct {
	MediaType    string       `json:"mediaType"`
	Digest       Digest       `json:"digest"`
	Manifest     []byte       `json:"manifest"`
	ConfigDigest Digest       `json:"configDigest"`
	Config       []byte       `json:"config"`
	Layers       []Descriptor `json:"layers"` // bottom first, DiffID filled from the config

	// Annotations are those of the descriptor of the manifest, if there is one.
	Annotations map[string]string `json:"annotations,omitempty"`

	// PlatformOverride is the platform in this descriptor, if it differs from the
	// config's.
	PlatformOverride *Platform `json:"described,omitempty"`
}

// SizeOf returns the size of the compressed layers of images, in bytes. It counts shared
// layers once.
func SizeOf(images ...Image) (sum int64) {
	seen := map[Digest]bool{}
	for _, img := range images {
		for _, b := range img.Layers {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				sum += b.Size
			}
		}
	}
	return sum
}

type ociDescriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      Digest            `json:"digest"`
	Size        int64             `json:"size"`
	URLs        []string          `json:"urls,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        ociDescriptor     `json:"config"`
	Layers        []ociDescriptor   `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// NewImage makes the manifest for a config and its layers, with the media types of
// OCI or Docker. It is deterministic.
func NewImage(config []byte, layers []Descriptor, annotations map[string]string, docker bool) (Image, error) {
	m := manifest{
		SchemaVersion: 2,
		MediaType:     MediaTypeManifest,
		Config:        ociDescriptor{MediaType: MediaTypeConfig, Digest: FromBytes(config), Size: int64(len(config))},
		Layers:        make([]ociDescriptor, 0, len(layers)),
		Annotations:   annotations,
	}
	if docker {
		m.MediaType, m.Config.MediaType = DockerManifest, DockerConfig
	}
	layers = slices.Clone(layers)
	for i := range layers {
		b := &layers[i]
		b.MediaType = convertMediaType(b.MediaType, docker)
		m.Layers = append(m.Layers, ociDescriptor{b.MediaType, b.Digest, b.Size, b.URLs, b.Annotations})
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

// ParseImage parses a manifest and its config. It verifies their sizes and digests
// and that the config has one diff ID for each layer. mediaType is the type given by
// the registry, or empty if only the manifest has one.
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
		ConfigDigest: m.Config.Digest, Config: config, Layers: m.descriptors(),
	}
	if err := fillDiffIDs(img.Layers, config); err != nil {
		t := m.artifact()
		if t == attestation && m.Config.MediaType == emptyConfig { // statements are not compressed
			for i := range img.Layers {
				img.Layers[i].DiffID = img.Layers[i].Digest
			}
			return img, nil
		}
		if t != "" {
			return Image{}, fmt.Errorf("it is an artifact of type %.200q, not an image", t)
		}
		return Image{}, err
	}
	return img, nil
}

// Types of the manifest and config of an attestation of BuildKit. In its older form the
// config is that of an image.
const (
	attestation = "application/vnd.docker.attestation.manifest.v1+json"
	emptyConfig = "application/vnd.oci.empty.v1+json"
)

// artifact returns the type of a manifest whose config is not that of an image, or "".
func (m manifest) artifact() string {
	switch m.Config.MediaType {
	case MediaTypeConfig, DockerConfig, "":
		return ""
	}
	return cmp.Or(m.ArtifactType, m.Config.MediaType)
}

// Foreign returns the media type of a layer that is not an archive of files, as those of
// signatures and attestations, or "" if there is none.
func (img Image) Foreign() string {
	for _, l := range img.Layers {
		archive := l.MediaType == ""
		for _, part := range []string{"tar", "gzip", "zstd", "octet-stream"} {
			archive = archive || strings.Contains(l.MediaType, part)
		}
		if !archive {
			return l.MediaType
		}
	}
	return ""
}

// ConfigOf returns the descriptor of the config in a manifest, so that it can be
// fetched before ParseImage. Its DiffID is empty.
func ConfigOf(mediaType string, rawManifest []byte) (Descriptor, error) {
	m, err := parseManifest(mediaType, rawManifest)
	if err != nil {
		return Descriptor{}, fmt.Errorf("manifest: %w", err)
	}
	return m.Config.public(), nil
}

func parseManifest(mediaType string, raw []byte) (manifest, error) {
	// A document that some readers take for an index and others for an image is an
	// attack (CVE-2021-41190), so "manifests" is not allowed.
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
		return manifest{}, fmt.Errorf("its media type is %q, but it was served as %q", m.MediaType, mediaType)
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

func (m manifest) descriptors() []Descriptor {
	blobs := make([]Descriptor, 0, len(m.Layers))
	for _, l := range m.Layers {
		blobs = append(blobs, l.public())
	}
	return blobs
}

func (d ociDescriptor) public() Descriptor {
	return Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, URLs: d.URLs, Annotations: d.Annotations}
}

func (d ociDescriptor) validate() error {
	if d.Size < 0 {
		return fmt.Errorf("size %d", d.Size)
	}
	return d.Digest.Validate()
}

// fillDiffIDs sets the diff IDs of layers from config. A diff ID that is set already
// must be the same.
func fillDiffIDs(layers []Descriptor, config []byte) error {
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

// convertMediaType returns the media type of a layer for the family of its manifest,
// since some registries refuse mixed families.
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

// SameFormat reports whether two media types of layers mean the same compression, in
// either family.
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
