// Package input finds the Dockerfile and the build contexts of a target.
//
// A context is a directory, an archive, a git repository or a file on a web server.
// Standard input may be an archive, or a Dockerfile that needs no context.
// [Sources.Open] finds the main context and parses the Dockerfile; named contexts are
// fetched when a step needs their files. Except for the user's own directories, the
// files of a context lie in a temporary directory of the store.
package input

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/layer/store"
)

// Sources gives access to the places that inputs come from. The targets of a session
// share it.
type Sources struct {
	Store    *store.Store
	Progress *progress.Reporter
	Git      *git.Source
	HTTP     *httpsource.Fetcher
	Stdin    io.Reader // for "-"; nil: there is no standard input
	Limits   limits.Limits
	Dirs     *Dirs    // that are open; nil: each target opens its own
	Fetched  *Fetched // nil: each target fetches its own
	Origin   string   // of the credentials of Git and HTTP: targets with the same one share their downloads
}

// Request describes the inputs of one target.
type Request struct {
	Scope      string // name of the target in the progress display; "" is the only one
	Context    string // directory, archive or URL; "-" is standard input
	Dockerfile string // path; "" is Dockerfile or else Containerfile in the context, "-" is standard input
	Inline     string // text of the Dockerfile; "" is the file
	Named      []Named
	IgnoreFile string // path; "" is that of the Dockerfile or the context

	KeepGitDir bool // keep .git in a context from a git repository
	CommitTime bool // give the files of a git repository the time of the commit
	Frontend   dockerfile.Options

	// IsTarget, if set, reports whether there is another target of a name, which a named
	// context may be.
	IsTarget func(name string) bool

	// FullName returns the full reference of an image that is named in a
	// docker-image:// context.
	FullName func(ctx context.Context, name string) (string, error)
}

// Named is an additional context, which replaces the stage or image of its name.
type Named struct {
	Name  string // may end with a platform, as in alpine::linux/arm64
	Value string // directory, archive, file or URL; docker-image://REF; oci-layout://DIR[:TAG][@DIGEST]; target:NAME
}

// Inputs are a parsed Dockerfile and the contexts of its target.
type Inputs struct {
	File *dockerfile.File
	// Definition shows how the Dockerfile is read; its warnings belong there.
	Definition *progress.Vertex

	sources *Sources
	main    location
	context *source.Dir // the main context
	named   map[string]*namedContext
	opened  []*source.Dir // of named
	byName  map[string]*source.Dir
}

// Open finds the main context and the Dockerfile, and parses the latter. Syntax
// errors are [*dockerfile.Error]. The caller must close the Inputs.
func (s *Sources) Open(ctx context.Context, r Request) (*Inputs, error) {
	in := &Inputs{sources: s}
	var err error
	if in.named, err = s.readNamed(ctx, r); err != nil {
		return nil, err
	}
	var text []byte
	if in.main, text, err = s.findMain(ctx, r); err != nil {
		return nil, err
	}
	bare, err := s.open(in.main) // without the ignore file, which may exclude the Dockerfile
	if err != nil {
		return nil, err
	}
	var def definition
	switch {
	case r.Inline != "":
		def = definition{name: defaultName, read: func() ([]byte, error) { return []byte(r.Inline), nil }}
	case text != nil:
		def = definition{name: defaultName, read: func() ([]byte, error) { return text, nil }}
	default:
		def, err = s.findDockerfile(ctx, r, in.main, bare)
	}
	if err == nil {
		err = in.parse(def, r)
	}
	if err != nil {
		s.release(bare)
		return nil, err
	}
	dir, ok := in.main.(userDir)
	if !ok { // as with BuildKit, only directories have ignore files
		in.context = bare
		if r.IgnoreFile != "" {
			in.Close()
			return nil, fmt.Errorf("the ignore file %s is for a directory, and the build context is not one of this machine: leave it out", r.IgnoreFile)
		}
		return in, nil
	}
	bare.Close()
	if r.IgnoreFile != "" {
		in.context, err = s.openWith(dir.path, r.IgnoreFile)
	} else {
		in.context, err = s.openIgnoring(dir.path, def.path, def.more)
	}
	if err != nil {
		return nil, err
	}
	return in, nil
}

// openWith opens a directory without the files that an ignore file of any path excludes.
func (s *Sources) openWith(dir, ignoreFile string) (*source.Dir, error) {
	f, err := os.Open(ignoreFile)
	if err != nil {
		return nil, fmt.Errorf("reading the ignore file: %w", err)
	}
	defer f.Close()
	content, err := limited(f, "the ignore file "+ignoreFile)
	if err != nil {
		return nil, err
	}
	return s.openDir(dir, content)
}

// openIgnoring opens a directory without the files that its ignore file excludes. One
// for the Dockerfile takes precedence over the directory's, and that over one of the
// name more, unless that is "".
func (s *Sources) openIgnoring(dir, dockerfile, more string) (*source.Dir, error) {
	var names []string
	if more != "" {
		names = []string{more}
	}
	ignore, err := source.ReadIgnore(dir, dockerfile, names...)
	if err != nil {
		return nil, err
	}
	for _, reason := range ignore.Unusable {
		s.Progress.Warn("%s", reason)
	}
	return s.openDir(dir, ignore.Content)
}

// Close closes the contexts and keeps their file hashes for the next build.
func (in *Inputs) Close() {
	for _, d := range append(in.opened, in.context) {
		if d != nil {
			in.sources.release(d)
		}
	}
}

// release closes a context unless other targets use it.
func (s *Sources) release(d *source.Dir) {
	if s.Dirs.released(d) {
		_ = d.SaveHints() // losing them costs only time
		d.Close()
	}
}

// Ignored reports whether the ignore file excludes a path of the main context. It
// reports false for every path if the ignore file has exceptions (!pattern).
func (in *Inputs) Ignored(name string) bool {
	if in.context == nil || in.context.Exceptions() {
		return false
	}
	if path.Clean("/"+name) == "/" {
		return in.context.IgnoresAll()
	}
	_, ok := in.context.Ignored(name)
	return ok
}

// Context returns the main context.
func (in *Inputs) Context() *source.Dir { return in.context }

// OpenNamed opens a named context that consists of files, fetching them if necessary.
// Close closes it.
func (in *Inputs) OpenNamed(ctx context.Context, name string) (*source.Dir, error) {
	d, err := in.openNamed(ctx, name)
	if err != nil {
		return nil, &ContextError{name, err}
	}
	in.opened = append(in.opened, d)
	if in.byName == nil {
		in.byName = map[string]*source.Dir{}
	}
	in.byName[name] = d
	return d, nil
}

// Count returns the number of files of a context that steps have read: of a named one or,
// with "", of the main context.
func (in *Inputs) Count(name string) source.Count {
	d := in.byName[name]
	if name == "" {
		d = in.context
	}
	if d == nil {
		return source.Count{}
	}
	return d.Count()
}

// Revision returns the ID of the git commit that the main context is of, or that is
// checked out in its directory, "" if it is not in a repository.
func (in *Inputs) Revision() string {
	switch l := in.main.(type) {
	case checkout:
		return l.commit
	case userDir:
		return git.Head(l.path)
	}
	return ""
}

// OpenVolume opens the directory of a volume, with all its files. Close closes it.
func (in *Inputs) OpenVolume(dir string) (*source.Dir, error) {
	d, err := source.OpenDir(dir, nil, in.sources.Store)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", dir, err)
	}
	in.opened = append(in.opened, d)
	return d, nil
}

func (in *Inputs) openNamed(ctx context.Context, name string) (*source.Dir, error) {
	files, err := in.locate(ctx, name)
	if err != nil {
		return nil, err
	}
	if dir, ok := files.(userDir); ok {
		return in.sources.openIgnoring(dir.path, "", "")
	}
	return in.sources.open(files)
}

// EpochOf returns the time of the source that SOURCE_DATE_EPOCH names, in Unix seconds,
// or nil if the source has none, as a directory.
func (in *Inputs) EpochOf(ctx context.Context, s plan.EpochSource) (*int64, error) {
	if s.Remote != nil {
		return in.sources.remoteTime(ctx, s.Remote)
	}
	if s.Context == "context" {
		return in.main.time(ctx)
	}
	files, err := in.locate(ctx, s.Context)
	if err != nil {
		return nil, &ContextError{s.Context, err}
	}
	return files.time(ctx)
}
