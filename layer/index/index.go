// Package index records what a layer says of each path, without the bytes of
// its files, and merges the records of a stack of layers into one view.
//
// A layer's index is a by-product of making or reading its tar. With the
// indexes of an image's layers a builder knows what any path in the image is,
// where symlinks lead, and who owns what, without unpacking anything. Only
// etc/passwd and etc/group carry their bytes, so that names of users can be
// looked up too.
//
// A View is immutable and shares structure with the view that it was made
// from, so a view for each step of a build costs what the step changed.
package index

import (
	"cmp"

	"github.com/cairn-build/cairn/layer"
)

// Type is the kind of thing that an entry describes.
type Type byte

// The types. A whiteout hides the path below; an opaque entry hides what the
// layers below have inside a directory.
const (
	TypeFile Type = iota + 1
	TypeDir
	TypeSymlink
	TypeHardlink
	TypeChar
	TypeBlock
	TypeFifo
	TypeWhiteout
	TypeOpaque
)

// MaxContent is the most bytes of a file that an entry carries; MaxPath is the
// longest path, as the kernel's PATH_MAX without its final zero byte, and MaxName
// the longest name in one, its NAME_MAX. MaxID is the largest id of an owner: 1<<32-1
// stands for none.
const (
	MaxContent = 10 << 20
	MaxPath    = 4095
	MaxName    = 255
	MaxID      = 1<<32 - 2
)

// Entry is what a layer says of one path.
type Entry struct {
	Path         string // clean, relative to the root, no leading slash; the root is "."
	Type         Type
	Mode         uint32 // permission bits with setuid 04000, setgid 02000, sticky 01000
	UID, GID     int
	Size         int64
	MTime        int64  // Unix seconds
	Link         string // a symlink's target, or the path of a hard link's target in the same layer
	Major, Minor uint32
	XAttrs       map[string]string
	Digest       layer.Digest // of a regular file's content; "" if not known
	Content      []byte       // only of etc/passwd and etc/group
}

// Index is what one layer says, sorted by Compare.
type Index struct {
	Entries []Entry
}

// Compare orders entries as a layer has them: the root, then bytewise by path,
// and at the same path the whiteout, then what is there, then the opaque mark.
func Compare(a, b Entry) int {
	return ComparePaths(a.Path, a.Type, b.Path, b.Type)
}

// ComparePaths is Compare for paths and types alone.
func ComparePaths(aPath string, a Type, bPath string, b Type) int {
	if aPath != bPath {
		if aPath == "." || bPath != "." && aPath < bPath {
			return -1
		}
		return 1
	}
	return cmp.Compare(rank(a), rank(b))
}

func rank(t Type) int {
	switch t {
	case TypeWhiteout:
		return 0
	case TypeOpaque:
		return 2
	}
	return 1
}

// CarriesContent says whether an entry for path holds its file's bytes.
func CarriesContent(path string) bool {
	return path == "etc/passwd" || path == "etc/group"
}

// ValidPath says whether p has the form of an entry's path: "." or clean and
// relative, at most as long as the kernel takes.
func ValidPath(p string) bool {
	if p == "." {
		return true
	}
	if p == "" || len(p) > MaxPath {
		return false
	}
	start := 0
	for i := 0; i <= len(p); i++ {
		if i < len(p) && p[i] != '/' {
			if p[i] == 0 {
				return false
			}
			continue
		}
		switch p[start:i] {
		case "", ".", "..":
			return false
		}
		start = i + 1
	}
	return true
}
