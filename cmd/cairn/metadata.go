package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/appear"
)

// metadata is what --metadata-file holds, under buildx's keys.
type metadata struct {
	ConfigDigest layer.Digest `json:"containerimage.config.digest,omitempty"` // of one platform
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
func (b *buildFlags) writeFiles(built *builder.Built) error {
	if b.iidFile != "" {
		if err := writeFile(b.iidFile, []byte(id(built))); err != nil {
			return err
		}
	}
	if b.metadataFile == "" {
		return nil
	}
	m := metadata{Descriptor: descriptorOf(built), Digest: built.Digest(), Name: strings.Join(b.names(built), ",")}
	if built.Set == nil {
		m.ConfigDigest = built.Image.ConfigDigest
	}
	if on, err := strconv.ParseBool(os.Getenv("BUILDX_METADATA_WARNINGS")); on && err == nil {
		for _, w := range built.Warnings {
			m.Warnings = append(m.Warnings, builder.Advice(built.File, w))
		}
	}
	text, err := indented(m)
	if err != nil {
		return err
	}
	return writeFile(b.metadataFile, text)
}

// id is that of the image; several have the digest of their index.
func id(built *builder.Built) layer.Digest {
	if built.Set != nil {
		return built.Set.Digest
	}
	return built.Image.ConfigDigest
}

func descriptorOf(built *builder.Built) descriptor {
	if set := built.Set; set != nil {
		return descriptor{MediaType: set.MediaType, Digest: set.Digest, Size: int64(len(set.Index)), Annotations: set.Annotations}
	}
	img := built.Image
	return descriptor{
		MediaType: img.MediaType, Digest: img.Digest, Size: int64(len(img.Manifest)),
		Platform: platformOf(img), Annotations: img.Annotations,
	}
}

// names are all references that the image got.
func (b *buildFlags) names(built *builder.Built) []string {
	names := append([]string(nil), built.Tags...)
	for _, out := range b.Outputs {
		names = append(names, out.Names...)
	}
	return names
}

func platformOf(img layer.Image) *layer.Platform {
	p := layer.Platform{}
	if img.Described != nil {
		p = *img.Described
	} else if json.Unmarshal(img.Config, &p) != nil {
		return nil
	}
	if p.OS == "" || p.OS == "unknown" { // an attestation
		return nil
	}
	return &p
}

func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// removeOld removes what an earlier build wrote, which would mislead if this one
// fails. Devices and pipes are left alone.
func removeOld(name string) error {
	fi, err := os.Lstat(name)
	if err != nil || !fi.Mode().IsRegular() {
		return nil // writing will tell
	}
	return os.Remove(name)
}

// writeFile writes a file that appears when it is complete. What is no regular
// file, a device or a link, is written to as it is: it must not be replaced.
func writeFile(name string, content []byte) error {
	if fi, err := os.Lstat(name); err == nil && !fi.Mode().IsRegular() {
		return os.WriteFile(name, content, 0o644)
	}
	err := appear.File(name, 0o644, func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, reason(err))
	}
	return nil
}

// writable tells before a long build that a file can't be written after it.
func writable(name string) error {
	if fi, err := os.Lstat(name); name == "" || err == nil && !fi.Mode().IsRegular() {
		return nil
	}
	if err := unix.Access(filepath.Dir(name), unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// reason leaves out the name of the file that an error is about.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
