// Package source reads build contexts: directories behind their .dockerignore.
//
// A Dir shows the files of a directory that its ignore file lets through, and
// nothing of what lies outside: symlinks are resolved here, one element after
// the other and clamped at the root, never by the kernel. COPY uses it in this
// order: Glob for the source patterns, Resolve for each path found (a source
// that is a symlink is followed), Scan for what lies below.
//
// Contents are known by their SHA-256. Digests are kept from build to build
// with the size, times and inode of the file that they were computed from, so
// an unchanged context costs one fstatat a file. A file that changed so
// shortly before it was read that its times could hide a later change is not
// kept: git calls such entries racily clean.
//
// Contexts may be hostile or alive. FIFOs, sockets and devices are never
// opened, and a file that is not what it was when it was listed is an error
// that names it. What vanishes while a directory is listed is left out.
package source

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/index"
)

// Hints keeps the digests of a context's files from build to build. What is
// lost or damaged costs time only.
type Hints interface {
	Hint(key string) ([]byte, error)
	PutHint(key string, b []byte) error
}

// Dir is a build context: a directory behind its ignore file. All methods may
// be called from any goroutine.
//
// Paths are slash-separated and relative to the context; a leading slash is
// dropped, as is a ".." above the root.
type Dir struct {
	path   string
	root   int // descriptor of the directory
	ignore *patterns
	hints  hints
	xattr  bool // the kernel has listxattrat
	tar    *Unpacked
}

// Ident tells the hard links of one file: files with the same Ident are one.
// A file that has one name only has the zero Ident.
type Ident struct {
	Dev, Ino uint64
}

// File is one entry of a context.
//
// Its Path is relative to the context, the root's is "."; its owner is 0:0,
// its Mode as on disk, its MTime in whole seconds, its XAttrs are user.* and
// security.capability, and its Digest is set where it is known. A hard link is
// a regular file with an Ident. Sockets and devices never appear.
type File struct {
	index.Entry
	Ident Ident
	Lead  bool // a directory that the options of a walk leave out, but not all below it

	content
	attrs bool // it has attributes that are kept
}

// content is what a file's bytes are read by.
type content struct {
	dir   *Dir
	path  string // as it was listed, in case that a caller changes Path
	stamp stamp
}

// IgnoredError says that a path is left out of the context by its ignore file.
// It matches fs.ErrNotExist.
type IgnoredError struct {
	Path    string
	Pattern string // of the ignore file
}

func (e *IgnoredError) Error() string {
	return fmt.Sprintf("%s: excluded by the ignore file (pattern %q)", e.Path, e.Pattern)
}

// Is makes errors.Is(e, fs.ErrNotExist) hold.
func (e *IgnoredError) Is(target error) bool { return target == fs.ErrNotExist }

// OpenDir opens the context directory at path. ignoreFile is the content of
// its ignore file (see ReadIgnore), nil for none; hints may be nil.
func OpenDir(path string, ignoreFile []byte, hints Hints) (*Dir, error) {
	ignore, err := parseIgnore(ignoreFile)
	if err != nil {
		return nil, fmt.Errorf("read ignore file: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open context: %w", err)
	}
	fd, err := retry(func() (int, error) {
		return unix.Open(abs, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("open context: %w", &fs.PathError{Op: "open", Path: path, Err: err})
	}
	d := &Dir{path: abs, root: fd, ignore: ignore, xattr: haveListxattrat(fd)}
	d.hints.open(hints, abs, time.Now())
	return d, nil
}

// Close closes the directory. Its files can't be opened any more; readers that
// are open stay so.
func (d *Dir) Close() error {
	if err := unix.Close(d.root); err != nil {
		return os.NewSyscallError("close", err)
	}
	return nil
}

// Path returns the absolute path of the context.
func (d *Dir) Path() string { return d.path }

// Ignored says whether the ignore file excludes path, be it there or not, and
// by which of its patterns. A directory that is excluded may still be part of
// the context, because something below it is included again.
func (d *Dir) Ignored(path string) (pattern string, ignored bool) {
	return d.ignore.verdict(clean(path))
}

// Exceptions says whether the ignore file has patterns that take back what
// others leave out.
func (d *Dir) Exceptions() bool {
	return d.ignore != nil && slices.ContainsFunc(d.ignore.list, func(p pattern) bool { return p.exclusion })
}
