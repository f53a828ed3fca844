// Package tarball reads and writes the tar archives of layers.
//
// Write makes a tar from changes and is deterministic: the same changes give the
// same bytes. Scan lists a tar. Apply and Materialize unpack a tar, or changes,
// into a directory tree in the overlay form of package tree.
//
// A tar is untrusted. Its paths are resolved in a model of the tree, never by the
// kernel: a symlink of the layer, or of the layers below, leads to another path in
// the same tree. On disk each directory is opened without following symlinks.
//
// Some entries exist in the listing only: device nodes where mknod(2) is not
// permitted, and owners that are not to be set.
package tarball

import (
	"fmt"
	"io"
	"path"
	"time"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tree"
)

// Change is one path that a layer sets or removes.
type Change struct {
	listing.Entry
	// Open returns the contents of a regular file. It is called only if Size > 0. If
	// Entry.Digest is set, the contents must have it.
	Open func() (io.ReadCloser, error)
	// Time, if not nil, returns the mtime that the path gets in a tree, to the
	// nanosecond. The tar has MTime.
	Time func() time.Time
}

// exact returns the exact mtime. opened is that of the open file, if it is [Timed].
func (c *Change) exact(opened *time.Time) time.Time {
	switch {
	case c.Time != nil:
		return c.Time()
	case opened != nil:
		return *opened
	}
	return time.Unix(c.MTime, 0)
}

// Timed is an open file whose mtime is that of its copies in trees, to the nanosecond.
// What Change.Open returns may implement it.
type Timed interface{ ModTime() (time.Time, error) }

// Limits bound the contents of a tar. Zero fields stand for generous defaults.
type Limits struct {
	MaxEntries int   // entries; default 2,000,000
	MaxBytes   int64 // bytes of file contents; default 256 GiB

	maxMeta int // bytes of paths, link targets and attributes; default 256 MiB
}

// DefaultBytes is the default of Limits.MaxBytes.
const DefaultBytes = 256 << 30

// A LimitError means that a tar exceeds its Limits.
type LimitError struct {
	Entries bool // the number of entries, not the bytes of files, exceeds Most
	Most    int64
}

func (e *LimitError) Error() string {
	if e.Entries {
		return fmt.Sprintf("it holds more than %d entries", e.Most)
	}
	return fmt.Sprintf("its files have more than %d bytes", e.Most)
}

// ApplyOptions are the options of Apply.
type ApplyOptions struct {
	// Below is the view of the layers below. It resolves parents that the layer
	// lacks, gives their attributes, and shows which whiteouts are needed. It may be
	// nil if the layer is self-contained: then each whiteout is made, and overlayfs
	// lists those that hide nothing.
	Below   *listing.View
	Limits  Limits
	NoChown bool // do not set owners
	// Readable adds to modes the permissions that the owner needs to read and remove
	// everything, for processes other than root. The listing has the modes as they
	// are.
	Readable bool
	// Contents, if set, is a directory that has the contents of the files at their paths, on
	// the same file system. They are moved instead of read and copied. Its paths are trusted.
	Contents string
	// Times, if not nil, has the mtimes of the entries, instead of those in the tar.
	Times *Times
	// Plain means that the tar is not a layer: names like those of whiteouts are
	// ordinary ones.
	Plain bool
}

func (l Limits) withDefaults() Limits {
	if l.MaxEntries <= 0 {
		l.MaxEntries = 2_000_000
	}
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultBytes
	}
	if l.maxMeta <= 0 {
		l.maxMeta = 256 << 20
	}
	return l
}

// A Meter counts the entries and bytes of an archive against its limits.
type Meter struct {
	limits  Limits
	entries int
	bytes   int64
}

// Meter returns a new Meter.
func (l Limits) Meter() *Meter { return &Meter{limits: l.withDefaults()} }

// Take counts an entry of size bytes. The error is a [LimitError].
func (m *Meter) Take(size int64) error {
	if err := m.entry(); err != nil {
		return err
	}
	return m.size(size)
}

func (m *Meter) entry() error {
	if m.entries++; m.entries > m.limits.MaxEntries {
		return &LimitError{true, int64(m.limits.MaxEntries)}
	}
	return nil
}

func (m *Meter) size(size int64) error {
	if size = max(size, 0); size > m.limits.MaxBytes-m.bytes {
		return &LimitError{false, m.limits.MaxBytes}
	}
	m.bytes += size
	return nil
}

// SelfContained reports whether the layer's tree is the same over any layers below.
// That holds if every ancestor of an entry is a directory in x and nothing is
// hidden, since only needed whiteouts are made. The root need not be an entry: the
// upper directory of an overlay has it.
func SelfContained(x *listing.Listing) bool {
	dirs := map[string]bool{".": true}
	for i := range x.Entries {
		e := &x.Entries[i]
		if !dirs[path.Dir(e.Path)] || e.Type == listing.TypeWhiteout || e.Type == listing.TypeOpaque {
			return false
		}
		if e.Type == listing.TypeDir {
			dirs[e.Path] = true
		}
	}
	return true
}

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	metaPrefix     = ".wh..wh."
	paxXAttr       = "SCHILY.xattr."
)

func keptXAttrs(attrs map[string]string) map[string]string {
	kept := map[string]string{}
	for name, value := range attrs {
		if tree.KeepXAttr(name) {
			kept[name] = value
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}
