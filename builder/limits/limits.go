// Package limits bounds the layers, archives and files that a build downloads, so
// that a decompression bomb cannot fill the disk. The errors of exceeded limits name
// the flag that raises them.
package limits

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Limits bounds input from outside the machine. A zero field means its default, which
// is higher than ordinary images and files need.
type Limits struct {
	LayerEntries int   // of one layer or archive; default 2,000,000
	LayerSize    int64 // bytes of files of one layer or archive; default 256 GiB
	// LayerRatio bounds the uncompressed size of a layer, as a multiple of its compressed
	// size, once that is more than 16 GiB; default 1,100. Deflate reaches at most 1,032.
	LayerRatio int64
	Download   int64 // bytes of one file that an ADD or a context downloads; default 64 GiB

	// Patience is the time after which a stalled transfer ends; the default depends on
	// the kind of server.
	Patience time.Duration
}

// The names of the limits, as in --limit NAME=N.
const (
	nameEntries  = "layer-entries"
	nameSize     = "layer-size"
	nameRatio    = "layer-ratio"
	nameDownload = "download-size"
)

const (
	defaultRatio    = 1_100
	alwaysExpands   = 16 << 30
	defaultDownload = 64 << 30
)

// MaxDownload returns the limit for one downloaded file, in bytes.
func (l Limits) MaxDownload() int64 { return cmp.Or(l.Download, defaultDownload) }

// Archive returns the limits of an archive whose compressed size is not known.
func (l Limits) Archive() tarball.Limits {
	return tarball.Limits{MaxEntries: l.LayerEntries, MaxBytes: l.LayerSize}
}

// Layer is the limits of one layer.
type Layer struct {
	tarball.Limits
	bytes string // the name of the limit that MaxBytes comes from
}

// Layer returns the limits of the layer that b describes.
func (l Limits) Layer(b layer.Descriptor) Layer {
	most := Layer{l.Archive(), nameSize}
	ratio := cmp.Or(l.LayerRatio, defaultRatio)
	expands := max(b.Size, 1<<20)
	if expands > (1<<62)/ratio {
		return most
	}
	if expands = max(expands*ratio, alwaysExpands); most.MaxBytes == 0 && expands >= tarball.DefaultBytes || most.MaxBytes > 0 && expands >= most.MaxBytes {
		return most
	}
	most.MaxBytes, most.bytes = expands, nameRatio
	return most
}

// Explain adds the flag that raises the limit to err, if err reports that reading the
// layer exceeded one.
func (l Layer) Explain(err error) error { return explain(err, l.bytes) }

// Explain adds the flag that raises the limit to err, if err reports that reading an
// archive or downloading a file exceeded one.
func Explain(err error) error { return explain(err, nameSize) }

// explain is Explain where the bytes of an archive are bounded by the limit called bytes.
func explain(err error, bytes string) error {
	var archive *tarball.LimitError
	var file *httpsource.TooLargeError
	var name string
	switch {
	case errors.As(err, &archive) && archive.Entries:
		name = nameEntries
	case errors.As(err, &archive):
		name = bytes
	case errors.As(err, &file):
		name = nameDownload
	default:
		return err
	}
	return fmt.Errorf("%w; allow more by --limit %s=N", err, name)
}

// Set sets the limit called name to value, a number of entries, bytes or times that is
// at least 1.
func (l *Limits) Set(name string, value int64) error {
	if value < 1 {
		return errors.New("want at least 1")
	}
	switch name {
	case nameEntries:
		l.LayerEntries = int(min(value, math.MaxInt32))
	case nameSize:
		l.LayerSize = value
	case nameRatio:
		l.LayerRatio = value
	case nameDownload:
		l.Download = value
	default:
		return fmt.Errorf("no limit is called %q: there are %s, %s, %s and %s", name, nameEntries, nameSize, nameRatio, nameDownload)
	}
	return nil
}
