// Package tarball turns changes into a layer's tar and a layer's tar into a
// directory tree.
//
// Write is deterministic: the same changes give the same bytes. Apply and
// Materialize make trees in overlay form: what an overlay mount takes as a
// lower directory, with character devices 0:0 for whiteouts and the attribute
// user.overlay.opaque on directories that hide what is below.
package tarball

import (
	"io"
	"iter"

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
	MaxEntries int   // entries; default 4,000,000
	MaxBytes   int64 // bytes of file contents; default 1 TiB
}

// ApplyOptions say how Apply makes a tree.
type ApplyOptions struct {
	Below   *index.View // resolves parents that the layer lacks; nil when it is self-contained
	Limits  Limits
	NoChown bool   // leave owners as they come
	Epoch   *int64 // mtimes in the tree are at most this
}

// Write writes changes as a tar and returns the index of what it wrote.
func Write(w io.Writer, changes iter.Seq2[Change, error]) (*index.Index, error) { return nil, nil }

// Scan reads a tar and returns its index; nothing is unpacked.
func Scan(r io.Reader, l Limits) (*index.Index, error) { return nil, nil }

// Apply unpacks a tar into dir, an empty directory, in overlay form.
func Apply(dir string, r io.Reader, o ApplyOptions) (*index.Index, error) { return nil, nil }

// Materialize makes the tree of changes in dir without a tar.
func Materialize(dir string, changes iter.Seq2[Change, error]) error { return nil }

// SelfContained says whether each ancestor of each entry is a directory in x.
func SelfContained(x *index.Index) bool { return false }

// Merge makes one tree in dir from the trees of the bottom of a chain, oldest
// first, by hard links; whiteouts are applied and dropped.
func Merge(dir string, trees []string) error { return nil }
