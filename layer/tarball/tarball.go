// Package tarball turns changes into a layer's tar, and a layer's tar into a
// directory tree.
//
// Write is deterministic: the same changes give the same bytes. Apply and
// Materialize make trees in overlay form, which an overlay mount with the
// option userxattr takes as a lower directory: character devices 0:0 are
// whiteouts, and the attribute user.overlay.opaque marks directories that hide
// what is below them. Merge makes one such tree from several.
//
// A tar is foreign. Its paths are resolved in a model of the tree, never by
// the kernel: a symlink of the layer, or of the layers below, leads to another
// place in the same tree and nowhere else. On disk each directory is entered
// without following anything.
//
// What a tree can't hold is in the index alone: device nodes where mknod(2) is
// not granted, and owners when they are not to be set.
package tarball

import (
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/cairn-build/cairn/layer/index"
)

// Change is one path that a layer sets or removes.
type Change struct {
	index.Entry
	// Open returns a regular file's bytes; it is called for Size > 0 only.
	// Entry.Digest, when set, must be that of what is read.
	Open func() (io.ReadCloser, error)
}

// Limits bound what a tar may hold. Zero fields take generous defaults.
type Limits struct {
	MaxEntries int   // entries; default 2,000,000
	MaxBytes   int64 // bytes of file contents; default 256 GiB

	maxMeta int // bytes of paths, and of link targets and attributes; default 256 MiB
}

// DefaultBytes is how many bytes of files a tar may hold unless Limits say so.
const DefaultBytes = 256 << 30

// A LimitError says that a tar holds more than its Limits allow.
type LimitError struct {
	Entries bool // of these; else bytes of files
	Most    int64
}

func (e *LimitError) Error() string {
	if e.Entries {
		return fmt.Sprintf("it holds more than %d entries", e.Most)
	}
	return fmt.Sprintf("its files have more than %d bytes", e.Most)
}

// ApplyOptions say how Apply makes a tree.
type ApplyOptions struct {
	// Below resolves parents that the layer itself lacks, gives them their
	// attributes, and says where a whiteout is needed; nil when the layer is
	// self-contained. Without it each whiteout is made, and overlayfs lists
	// those that hide nothing.
	Below   *index.View
	Limits  Limits
	NoChown bool // leave owners as they come
	// Readable adds to modes what the owner needs to read and remove all: for a
	// process without the rights of root. The index has modes as they are.
	Readable bool
	Epoch    *int64 // when set, no mtime in the tree is later
	// Plain says that the tar is no layer: names like those of whiteouts are
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

// A Meter counts what an archive holds against its limits.
type Meter struct {
	limits  Limits
	entries int
	bytes   int64
}

// Meter begins to count.
func (l Limits) Meter() *Meter { return &Meter{limits: l.withDefaults()} }

// Take counts one entry of size bytes. Its error is a [LimitError].
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

// SelfContained says whether the layer's tree is the same over any layers
// below: each ancestor of each entry is a directory in x, and nothing is
// hidden, because whiteouts are made only where there is something to hide.
// The root need not be an entry: an overlay's upper directory gives that.
func SelfContained(x *index.Index) bool {
	dirs := map[string]bool{".": true}
	for i := range x.Entries {
		e := &x.Entries[i]
		if !dirs[path.Dir(e.Path)] || e.Type == index.TypeWhiteout || e.Type == index.TypeOpaque {
			return false
		}
		if e.Type == index.TypeDir {
			dirs[e.Path] = true
		}
	}
	return true
}

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	metaPrefix     = ".wh..wh."
	overlayXAttrs  = "user.overlay."
	opaqueXAttr    = overlayXAttrs + "opaque"
	paxXAttr       = "SCHILY.xattr."
)

// keepXAttr says whether an extended attribute is part of a layer. Labels and
// an overlay's own marks belong to the machine.
func keepXAttr(name string) bool {
	if strings.HasPrefix(name, "security.") {
		return name == "security.capability"
	}
	return !strings.HasPrefix(name, "trusted.") && !strings.HasPrefix(name, overlayXAttrs)
}

func keptXAttrs(attrs map[string]string) map[string]string {
	kept := map[string]string{}
	for name, value := range attrs {
		if keepXAttr(name) {
			kept[name] = value
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

func base(p string) string {
	return p[strings.LastIndexByte(p, '/')+1:]
}

func dirOf(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return "."
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
