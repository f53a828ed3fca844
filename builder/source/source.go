// Package source reads build contexts: directories behind their .dockerignore.
//
// A Dir shows the files of a directory that its ignore file lets through, and nothing of what lies outside: symlinks are resolved
// here, one component after the other and clamped at the root, never by the kernel. COPY uses it in this order: Glob for the
// source patterns, Resolve for each path found (a source that is a symlink is followed), Scan for what lies below it.
//
// Contents are known by their SHA-256. Digests are kept from build to build with the times, the inode and the size of the file
// that they were computed from, so an unchanged context costs one fstatat a file; a file that changed so shortly before it was
// read that its times could hide a later change is not kept (git calls such entries racily clean).
//
// Contexts may be hostile or alive: FIFOs, sockets and devices are never opened, and a file that is not what it was when it was
// listed is an error that names it.
package source

import (
	"context"
	"io"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/index"
)

// Hints keeps the digests of a context's files from build to build. A lost or wrong-sized value costs time only.
type Hints interface {
	Hint(key string) ([]byte, error)
	PutHint(key string, b []byte) error
}

// Dir is a local build context behind its ignore file. All methods may be called from any goroutine.
type Dir struct{}

// Ident tells hard links of one file: files with the same Ident, not zero, are one. A file with one name only has the zero Ident.
type Ident struct {
	Dev, Ino uint64
}

// File is one entry of a context. Owner is 0:0, Mode as on disk, MTime in whole seconds, XAttrs user.* and security.capability.
// Digest is set where it is known. Sockets and devices never appear; hard links are regular files with an Ident.
type File struct {
	index.Entry // Path is relative to the context; the root is "."
	Ident       Ident
}

// Open returns a regular file's bytes. Reading fails, with an error that names the path, unless the file is exactly what it was
// when it was listed: at the start and still at the end.
func (f File) Open() (io.ReadCloser, error) { panic("soon") }

// IgnoredError says that a path is there, but excluded by the ignore file. It matches fs.ErrNotExist.
type IgnoredError struct {
	Path    string
	Pattern string // of the ignore file
}

func (e *IgnoredError) Error() string { return e.Path + ": excluded by the pattern " + e.Pattern }

// WalkOptions filter what lies below a walked directory; the directory itself is never filtered. Patterns are those of an ignore
// file (moby/patternmatcher), matched against paths relative to the walked directory, in addition to the ignore file.
type WalkOptions struct {
	Include []string // when not empty, only files that match, directories that match, and the parents of both
	Exclude []string // not these; "!" takes back
}

// OpenDir opens the context directory at path. ignoreFile is the content of its ignore file (see ReadIgnore), nil for none;
// hints may be nil.
func OpenDir(path string, ignoreFile []byte, hints Hints) (*Dir, error) { panic("soon") }

// Close closes the directory. Files of it can't be opened any more; readers that are open stay so.
func (d *Dir) Close() error { panic("soon") }

// Path returns the absolute path of the context.
func (d *Dir) Path() string { panic("soon") }

// Lstat returns what path is, following no symlink. Paths of all methods are slash-separated, relative to the context; a leading
// slash and ".." above the root are dropped. What is missing or ignored gives fs.ErrNotExist, or an IgnoredError that matches it.
func (d *Dir) Lstat(path string) (File, error) { panic("soon") }

// Resolve follows the symlinks in path, absolute ones and ".." clamped at the context's root, and returns what is there; its Path
// is the resolved one. The last element is followed only if followLast is set. Loops give ELOOP; missing and ignored as Lstat.
func (d *Dir) Resolve(path string, followLast bool) (File, error) { panic("soon") }

// Glob returns the paths that match a COPY source, sorted bytewise and not resolved: callers Resolve each. The part before the
// first element with a wildcard is followed through symlinks; from there on elements match by filepath.Match, and symlinks are
// not entered. A pattern without wildcards gives itself, cleaned, whether it is there or not; one with wildcards may give nothing.
func (d *Dir) Glob(ctx context.Context, pattern string) ([]string, error) { panic("soon") }

// Walk calls f for path, which is taken literally (see Resolve), and, when it is a directory, for everything below that is not
// ignored, bytewise by path ("a", "a.b", "a/c"): only the subtree asked for is read. A directory that is ignored comes when
// something below it is included again. An error of f ends the walk and is returned.
func (d *Dir) Walk(ctx context.Context, path string, o WalkOptions, f func(File) error) error {
	panic("soon")
}

// Scan is Walk with the digests of all regular files, computed on all cores while the walk goes on.
func (d *Dir) Scan(ctx context.Context, path string, o WalkOptions) ([]File, error) { panic("soon") }

// Digest returns the SHA-256 of a regular file's content, read unless it is known.
func (d *Dir) Digest(f File) (layer.Digest, error) { panic("soon") }

// Hash sets the Digest of all regular files among files, on all cores.
func (d *Dir) Hash(ctx context.Context, files []File) error { panic("soon") }

// Ignored says whether the ignore file excludes path, there or not, and by which of its patterns.
func (d *Dir) Ignored(path string) (pattern string, ignored bool) { panic("soon") }

// SaveHints keeps what was learnt for the next build. It writes only when something is new.
func (d *Dir) SaveHints() error { panic("soon") }

// ReadIgnore reads the ignore file that belongs to a Dockerfile: <Dockerfile>.dockerignore next to it, else .dockerignore in the
// context. dockerfilePath is "" when the Dockerfile has no path (stdin). Without one, content and name are empty.
func ReadIgnore(contextDir, dockerfilePath string) (content []byte, name string, err error) {
	panic("soon")
}
