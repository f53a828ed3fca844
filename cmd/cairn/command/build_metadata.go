package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/atomicfile"
	"github.com/cairn-build/cairn/registry/reference"
)

// metadata is the content of --metadata-file, with the keys of buildx.
type metadata struct {
	ConfigDigest layer.Digest `json:"containerimage.config.digest,omitempty"` // "" with several platforms
	Descriptor   descriptor   `json:"containerimage.descriptor"`
	Digest       layer.Digest `json:"containerimage.digest"`
	Name         string       `json:"image.name,omitempty"`

	Warnings []progress.Warning `json:"buildx.build.warnings,omitempty"` // with $BUILDX_METADATA_WARNINGS
}

type descriptor struct {
	MediaType string          `json:"mediaType"`
	Digest    layer.Digest    `json:"digest"`
	Size      int64           `json:"size"`
	Platform  *layer.Platform `json:"platform,omitempty"`

	Annotations map[string]string `json:"annotations,omitempty"`
}

// writeFiles writes --iidfile and --metadata-file.
func (b *buildCommand) writeFiles(built *builder.Built) error {
	if b.iidFile != "" {
		if err := writeFile(b.iidFile, []byte(imageID(built))); err != nil {
			return err
		}
	}
	if b.peer.rawIDFile != "" {
		if err := writeFile(b.peer.rawIDFile, []byte(imageID(built).Hex())); err != nil {
			return err
		}
	}
	if b.metadataFile == "" {
		return nil
	}
	m := b.metadata(built)
	if on, err := strconv.ParseBool(os.Getenv("BUILDX_METADATA_WARNINGS")); on && err == nil {
		for _, w := range built.Warnings {
			m.Warnings = append(m.Warnings, builder.Advice(built.File, w))
		}
	}
	text, err := indentedJSON(m)
	if err != nil {
		return err
	}
	return writeFile(b.metadataFile, text)
}

// metadata describes the image.
func (b *buildCommand) metadata(built *builder.Built) metadata {
	m := metadata{Descriptor: descriptorOf(built), Digest: built.Digest(), Name: strings.Join(b.names(built), ",")}
	if built.Index == nil {
		m.ConfigDigest = built.Image.ConfigDigest
	}
	return m
}

// imageID returns the ID of the image, or the digest of the index of several.
func imageID(built *builder.Built) layer.Digest {
	if built.Index != nil {
		return built.Index.Digest
	}
	return built.Image.ConfigDigest
}

func descriptorOf(built *builder.Built) descriptor {
	if set := built.Index; set != nil {
		return descriptor{MediaType: set.MediaType, Digest: set.Digest, Size: int64(len(set.Raw)), Annotations: set.Annotations}
	}
	img := built.Image
	return descriptor{
		MediaType: img.MediaType, Digest: img.Digest, Size: int64(len(img.Manifest)),
		Platform: platformOf(img), Annotations: img.Annotations,
	}
}

// names returns the references of the image.
func (b *buildCommand) names(built *builder.Built) []string {
	names := append([]string(nil), built.Tags...)
	for _, out := range b.options.Outputs {
		for _, name := range out.Names {
			if full, err := reference.Normalize(name); err == nil {
				names = append(names, full)
			}
		}
	}
	return names
}

// platformOf returns the platform of an image, or nil if it has none, as attestations.
func platformOf(img layer.Image) *layer.Platform {
	p := layer.Platform{}
	if img.PlatformOverride != nil {
		p = *img.PlatformOverride
	} else if json.Unmarshal(img.Config, &p) != nil {
		return nil
	}
	if p.OS == "" || p.OS == "unknown" {
		return nil
	}
	return &p
}

// indentedJSON encodes a value without escaping HTML.
func indentedJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// writeFile writes a file that appears when it is complete, where it can be replaced.
// It does not replace devices, pipes and links, but writes to them.
func writeFile(name string, content []byte) error {
	err := atomicfile.Output(name, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, withoutPath(err))
	}
	return nil
}

// checkWritable returns an error, before a long build, if the file of a flag can't be
// written after it.
func checkWritable(flag, name string) error {
	err := atomicfile.Check(name)
	at := (*fs.PathError)(nil)
	switch {
	case name == "" || err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--%s %s: the directory %s does not exist: create it or choose another file", flag, name, filepath.Dir(name))
	case errors.As(err, &at) && at.Path == name:
		return fmt.Errorf("--%s %s: cannot write to the file: %w", flag, name, at.Err)
	}
	return fmt.Errorf("--%s %s: cannot write in the directory %s: %w", flag, name, filepath.Dir(name), withoutPath(err))
}

// withoutPath removes the name of the file from an error.
func withoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
