// Package listing lists the paths of layers with their attributes and merges the
// listings of a stack of layers into one view.
//
// A listing is a by-product of writing or reading a layer's tar. With the listings
// of an image's layers a builder knows every path in the image, the targets of
// symlinks and the owners of files, without unpacking anything. Only etc/passwd and
// etc/group are listed with their contents, so that user names can be looked up too.
//
// A View is immutable and shares structure with the view below it, so the view of a
// build step takes memory for the step's changes only.
package listing

import (
	"cmp"

	"github.com/cairn-build/cairn/layer"
)

// Type is the file type of an entry.
type Type byte

// The types. A whiteout hides its path in the layers below. An opaque entry hides
// the contents of its directory in the layers below.
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

// MaxContent is the maximum size of the contents in an entry. MaxPath is the maximum
// length of a path, which is the kernel's PATH_MAX without the final zero byte, and
// MaxName that of one element, NAME_MAX. MaxID is the largest user or group id:
// 1<<32-1 stands for none.
const (
	MaxContent = 10 << 20
	MaxPath    = 4095
	MaxName    = 255
	MaxID      = 1<<32 - 2
)

// Entry is one path of a layer.
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
	Content      []byte       // of etc/passwd and etc/group only
}

// Listing is the path listing of one layer, sorted by Compare.
type Listing struct {
	Entries []Entry
}

// Compare orders the entries of a listing: the root first, then bytewise by path,
// and for one path the whiteout, then the file, then the opaque mark.
func Compare(a, b Entry) int {
	return ComparePaths(a.Path, a.Type, b.Path, b.Type)
}

// ComparePaths is Compare for paths and types.
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

// CarriesContent reports whether the entry for path has the contents of the file.
func CarriesContent(path string) bool {
	return path == "etc/passwd" || path == "etc/group"
}

// ValidPath reports whether p is a valid path of an entry: "." or a clean relative
// path of at most MaxPath bytes.
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
