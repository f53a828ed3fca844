// Package layout reads and writes images as files: OCI layouts (a directory, or one
// tar file) and docker archives.
//
// A docker archive is written like docker does since version 25: as an OCI layout
// that also has a manifest.json, so that old and new readers accept it. Layers are
// written in their stored compression.
//
// The output is deterministic. The input is untrusted: names in an archive never
// become paths outside it, the size of documents is limited, and every blob is
// verified while it is read.
package layout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/cairn-build/cairn/layer"
)

const (
	maxDocument = 4 << 20
	maxConfig   = 8 << 20
	maxEntries  = 100_000 // of a tar file
	maxNesting  = 3       // depth of nested indexes

	refName       = "org.opencontainers.image.ref.name"
	imageName     = "io.containerd.image.name"
	layoutFile    = "oci-layout"
	indexFile     = "index.json"
	dockerFile    = "manifest.json"
	layoutContent = `{"imageLayoutVersion":"1.0.0"}`
)

// Open returns the compressed bytes of a layer.
type Open func(layer.Descriptor) (io.ReadCloser, error)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      layer.Digest      `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *layer.Platform   `json:"platform,omitempty"`
}

func blobName(d layer.Digest) string { return "blobs/sha256/" + d.Hex() }

// platformOf parses the platform of a config, or returns the zero platform.
func platformOf(config []byte) layer.Platform {
	var p layer.Platform
	_ = json.Unmarshal(config, &p) // the image was parsed before
	return p
}

// contents returns the blobs of images without duplicates: manifest, config and
// layers, bottom first.
func contents(open Open, images ...layer.Image) (all []blob) {
	seen := map[layer.Digest]bool{}
	add := func(b blob) {
		if !seen[b.digest] {
			seen[b.digest] = true
			all = append(all, b)
		}
	}
	for _, img := range images {
		add(document(img.Digest, img.Manifest))
		add(document(img.ConfigDigest, img.Config))
		for _, l := range img.Layers {
			add(blob{l.Digest, l.Size, func() (io.ReadCloser, error) { return open(l) }})
		}
	}
	return all
}

// indexContents is contents with the index first.
func indexContents(open Open, set layer.Index) []blob {
	return append([]blob{document(set.Digest, set.Raw)}, contents(open, set.Images...)...)
}

func document(d layer.Digest, b []byte) blob {
	return blob{d, int64(len(b)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

type blob struct {
	digest layer.Digest
	size   int64
	open   func() (io.ReadCloser, error)
}

// copyTo copies and verifies b's bytes.
func (b blob) copyTo(w io.Writer) error {
	r, err := b.open()
	if err != nil {
		return fmt.Errorf("blob %s: %w", b.digest, err)
	}
	v := layer.Verify(r, b.digest, b.size)
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{v}, make([]byte, copyBuffer))
	if cerr := r.Close(); err == nil && cerr != nil {
		return fmt.Errorf("blob %s: %w", b.digest, cerr)
	}
	return err
}

const copyBuffer = 256 << 10
