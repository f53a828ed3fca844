package worker

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"github.com/cairn-build/cairn/builder/source/http"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Limits bound what comes from elsewhere. A zero field takes its default, which
// honest content does not reach.
type Limits struct {
	LayerEntries int   // of one layer or archive; default 2,000,000
	LayerSize    int64 // bytes of files of one layer or archive; default 256 GiB
	// LayerRatio is how many times its compressed size a layer may expand to, once
	// that is more than 16 GiB; default 1,100. Deflate can't do more than 1,032.
	LayerRatio int64
	Download   int64 // bytes that an ADD or a context fetches from a web server; default 64 GiB
}

// The names of the limits for people.
const (
	limitEntries  = "layer-entries"
	limitSize     = "layer-size"
	limitRatio    = "layer-ratio"
	limitDownload = "download-size"
)

const (
	defaultRatio    = 1_100
	alwaysExpands   = 16 << 30
	defaultDownload = 64 << 30
)

// MaxDownload is the limit for one file, in bytes.
func (l Limits) MaxDownload() int64 { return cmp.Or(l.Download, defaultDownload) }

// Archive bounds an archive whose compressed size says nothing.
func (l Limits) Archive() tarball.Limits {
	return tarball.Limits{MaxEntries: l.LayerEntries, MaxBytes: l.LayerSize}
}

// layer bounds a layer, and gives the name of the limit for its bytes.
func (l Limits) layer(b layer.Blob) (tarball.Limits, string) {
	most := l.Archive()
	ratio := cmp.Or(l.LayerRatio, defaultRatio)
	expands := max(b.Size, 1<<20)
	if expands > (1<<62)/ratio {
		return most, limitSize
	}
	if expands = max(expands*ratio, alwaysExpands); most.MaxBytes == 0 && expands >= tarball.DefaultBytes || most.MaxBytes > 0 && expands >= most.MaxBytes {
		return most, limitSize
	}
	most.MaxBytes = expands
	return most, limitRatio
}

// allowMore names the flag by which a limit that was reached can be raised. bytes is
// the one for the bytes of an archive.
func allowMore(err error, bytes string) error {
	var archive *tarball.LimitError
	var file *http.TooLargeError
	var name string
	switch {
	case errors.As(err, &archive) && archive.Entries:
		name = limitEntries
	case errors.As(err, &archive):
		name = bytes
	case errors.As(err, &file):
		name = limitDownload
	default:
		return err
	}
	return fmt.Errorf("%w; allow more by --limit %s=N", err, name)
}

// AllowMore names the flag by which a limit that was reached can be raised, for what
// is bounded by its size alone.
func AllowMore(err error) error { return allowMore(err, limitSize) }

// Set changes the limit of a name: to a number of entries, bytes or times, at least 1.
func (l *Limits) Set(name string, value int64) error {
	if value < 1 {
		return errors.New("want at least 1")
	}
	switch name {
	case limitEntries:
		l.LayerEntries = int(min(value, math.MaxInt32))
	case limitSize:
		l.LayerSize = value
	case limitRatio:
		l.LayerRatio = value
	case limitDownload:
		l.Download = value
	default:
		return fmt.Errorf("no limit is called %q: there are %s, %s, %s and %s", name, limitEntries, limitSize, limitRatio, limitDownload)
	}
	return nil
}
