// Package layout reads and writes images as files: OCI layouts (a directory,
// or one tar file) and docker archives.
//
// A docker archive is written as docker itself has written them since version
// 25: an OCI layout that also has the manifest.json of old, so that either
// kind of reader accepts it. Layers go in as they are, compressed.
//
// What is written is deterministic: the same image under the same names gives
// the same bytes. What is read is foreign: names inside an archive never
// become paths outside it, documents are limited in size, and every blob is
// checked against its digest while it is read.
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
	maxNesting  = 3       // indexes in indexes

	refName       = "org.opencontainers.image.ref.name"
	imageName     = "io.containerd.image.name"
	layoutFile    = "oci-layout"
	indexFile     = "index.json"
	dockerFile    = "manifest.json"
	layoutContent = `{"imageLayoutVersion":"1.0.0"}`
)

// Open gives the compressed bytes of a layer.
type Open func(layer.Blob) (io.ReadCloser, error)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      layer.Digest      `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *layer.Platform   `json:"platform,omitempty"`
}

func blobName(d layer.Digest) string { return "blobs/sha256/" + d.Hex() }

// platformOf reads a config; one that says nothing has the zero platform.
func platformOf(config []byte) layer.Platform {
	var p layer.Platform
	_ = json.Unmarshal(config, &p) // the image was parsed before
	return p
}

// contents lists what images consist of, each blob once: manifest, config,
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

// setContents has the index first.
func setContents(open Open, set layer.Set) []blob {
	return append([]blob{document(set.Digest, set.Index)}, contents(open, set.Images...)...)
}

func document(d layer.Digest, b []byte) blob {
	return blob{d, int64(len(b)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

type blob struct {
	digest layer.Digest
	size   int64
	open   func() (io.ReadCloser, error)
}

// copyTo copies b's bytes, verified.
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
