// Package layout reads and writes images as files: OCI layouts (a directory,
// or one tar file) and docker archives.
//
// The archives are deterministic: the same image under the same names gives
// the same bytes.
package layout

import (
	"errors"
	"io"

	"github.com/cairn-build/cairn/layer"
)

// Open gives the compressed bytes of a layer.
type Open func(layer.Blob) (io.ReadCloser, error)

// WriteOCI writes img as a tar of an OCI layout, under normalized references.
func WriteOCI(w io.Writer, refs []string, img layer.Image, open Open) error {
	return errors.ErrUnsupported
}

// WriteOCIDir adds img to the OCI layout in dir, which is made when missing.
func WriteOCIDir(dir string, refs []string, img layer.Image, open Open) error {
	return errors.ErrUnsupported
}

// WriteDocker writes img as docker save does.
func WriteDocker(w io.Writer, refs []string, img layer.Image, open Open) error {
	return errors.ErrUnsupported
}

// Archive is a layout or archive that was opened for reading.
type Archive struct{ Images []Named }

// Named is an image in an archive.
type Named struct {
	Refs     []string // normalized; may be empty
	Platform layer.Platform
	Image    layer.Image
}

// ReadOCI opens an OCI layout, a directory or a tar file.
func ReadOCI(path string) (*Archive, error) { return nil, errors.ErrUnsupported }

// ReadDocker opens a docker archive.
func ReadDocker(path string) (*Archive, error) { return nil, errors.ErrUnsupported }

// Open gives the bytes of a layer of one of a's images, verified while they are read.
func (a *Archive) Open(b layer.Blob) (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

// Close closes the file under a.
func (a *Archive) Close() error { return nil }
