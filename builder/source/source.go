// Package source reads build contexts: directories filtered by a .dockerignore file.
//
// A Dir has the files of a directory that its ignore file does not exclude, and no files
// outside of the directory: symlinks are resolved by this package, element by element and
// clamped at the root, never by the kernel. COPY uses it in this order: Glob for the
// source patterns, Resolve for each path found (a source that is a symlink is followed),
// Scan for the files below.
//
// Contents are identified by their SHA-256. Digests are cached from build to build, with
// the size, times and inode of the file, so that an unchanged context costs one fstatat
// per file. The digest of a file that changed shortly before it was read is not cached,
// because its times could hide a later change: git calls such entries racily clean.
//
// Contexts may be hostile, and may change during a build. FIFOs, sockets and devices are
// never opened. If a file has changed since it was listed, reading it is an error that
// names the file. Files that vanish while a directory is listed are left out.
package source

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

// Hints caches the digests of a context's files from build to build. Lost or damaged
// values only cost time.
type Hints interface {
	Hint(key string) ([]byte, error)
	PutHint(key string, b []byte) error
}

// Dir is a build context: a directory filtered by its ignore file. Its methods may be
// called concurrently.
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
	scans  scans
}

// Ident identifies a file with several hard links. Files with the same Ident are the same
// file. The Ident of a file with a single name is zero.
type Ident struct {
	Dev, Ino uint64
}

// File is one entry of a context.
//
// Its Path is relative to the context, the root's is "."; its owner is 0:0,
// its Mode as on disk, its MTime in whole seconds, its XAttrs are user.* and
// security.capability, and its Digest is set if it is known. A hard link is a regular
// file with an Ident. Sockets and devices never appear.
type File struct {
	listing.Entry
	Ident Ident
	Lead  bool // a directory that the options of a walk exclude, but not everything below it

	content
	attrs bool // it has extended attributes that are kept
}

// content is the part of a File that is needed to read it.
type content struct {
	dir   *Dir
	path  string // as listed; a caller may change File.Path
	stamp stamp
}

// IgnoredError is the error for a path that the ignore file excludes. It matches
// fs.ErrNotExist.
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

// Close closes the directory. Its files cannot be opened afterwards; open readers stay
// usable.
func (d *Dir) Close() error {
	if err := unix.Close(d.root); err != nil {
		return os.NewSyscallError("close", err)
	}
	return nil
}

// Path returns the absolute path of the context.
func (d *Dir) Path() string { return d.path }

// Ignored reports whether the ignore file excludes a path, and by which pattern. The path
// need not exist. An excluded directory is still part of the context if a file below it
// is included again.
func (d *Dir) Ignored(path string) (pattern string, ignored bool) {
	return d.ignore.verdict(clean(path))
}

// IgnoresAll reports whether a pattern of the ignore file excludes every file, which a later
// one may include again. The context itself is part of the context all the same.
func (d *Dir) IgnoresAll() bool {
	return d.ignore != nil && slices.ContainsFunc(d.ignore.list, func(p pattern) bool {
		return !p.exclusion && (p.text == "*" || p.text == "**" || p.text == "**/*")
	})
}

// Exceptions reports whether the ignore file has patterns that include files again.
func (d *Dir) Exceptions() bool {
	return d.ignore != nil && slices.ContainsFunc(d.ignore.list, func(p pattern) bool { return p.exclusion })
}
