package input

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
)

// loading is how progress shows the main context while it is read.
const loading = "[internal] load remote build context"

// address is the value of a context that is neither an image nor standard input: a git
// repository, a URL of a web server, or a path.
type address struct {
	repository *git.Ref // nil: it is not a repository
	url        bool
}

// parseAddress parses the value of a context. An existing directory takes precedence
// over a repository whose address looks the same.
func parseAddress(value string) (address, error) {
	if isDirectory(value) {
		return address{}, nil
	}
	ref, err := git.Parse(value)
	if err == nil {
		return address{repository: ref}, nil
	}
	if !errors.Is(err, git.ErrNotGit) {
		return address{}, err
	}
	return address{url: isURL(value)}, nil
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

func isDirectory(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// findMain finds the main context. If standard input is a Dockerfile in place of a
// context, findMain returns its text and an empty context.
func (s *Sources) findMain(ctx context.Context, r Request) (files location, text []byte, err error) {
	if r.Context == "-" {
		return s.readStdin(ctx, r.Dockerfile)
	}
	if files, err = s.fetchMain(ctx, r); err != nil {
		return nil, nil, &ContextError{Err: err}
	}
	return files, nil, nil
}

// ContextError is the error for a build context that cannot be read.
type ContextError struct {
	Name string // of a named context; "" is the main one
	Err  error
}

func (e *ContextError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("build context: %v", e.Err)
	}
	return fmt.Sprintf("build context %s: %v", e.Name, e.Err)
}

// Unwrap returns the reason.
func (e *ContextError) Unwrap() error { return e.Err }

// fetchMain finds a main context that is not standard input. A URL may name an archive
// or a Dockerfile, a path a directory or an archive.
func (s *Sources) fetchMain(ctx context.Context, r Request) (location, error) {
	at, err := parseAddress(r.Context)
	switch {
	case err != nil:
		return nil, err
	case at.repository != nil:
		q := at.repository.Request(false)
		q.KeepGitDir = q.KeepGitDir || r.KeepGitDir
		q.CommitTime = q.CommitTime || at.repository.MTime == "" && r.CommitTime
		return s.checkout(ctx, q, "[internal] load git source "+source.Redact(r.Context))
	case at.url:
		return s.fetchArchive(ctx, r.Context)
	case isDirectory(r.Context):
		return userDir{r.Context}, nil
	}
	if _, err := os.Stat(r.Context); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read %s: there is no such directory or archive", r.Context)
	}
	files, err := s.unpackFile(ctx, r.Context, loading)
	if errors.Is(err, errNotArchive) {
		if base := strings.ToLower(filepath.Base(r.Context)); strings.Contains(base, "dockerfile") || strings.Contains(base, "containerfile") {
			return nil, fmt.Errorf("%s is neither a directory nor a tar archive: to build from this Dockerfile, write -f %s %s",
				r.Context, r.Context, filepath.Dir(r.Context))
		}
		return nil, fmt.Errorf("%s is neither a directory nor a tar archive", r.Context)
	}
	return files, err
}

// readStdin reads an archive, or a Dockerfile without a context.
func (s *Sources) readStdin(ctx context.Context, dockerfile string) (files location, text []byte, err error) {
	if dockerfile == "-" {
		return nil, nil, errors.New("standard input can't be both the build context and the Dockerfile")
	}
	if s.Stdin == nil {
		return nil, nil, errors.New("there is no standard input to read the build context from")
	}
	in, isArchive, err := sniff(interruptible(ctx, s.Stdin))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the build context from standard input: %w", err)
	}
	if isArchive {
		files, err := s.unpack(in, loading)
		return files, nil, err
	}
	if dockerfile != "" {
		return nil, nil, errors.New("standard input is a Dockerfile, not an archive, and --file names another one: send a tar archive, or leave out --file")
	}
	if text, err = limited(in, "the Dockerfile on standard input"); err != nil {
		return nil, nil, err
	}
	dir, err := s.Store.TempDir("context")
	return emptyDir{dir}, text, err
}

// errNotArchive is the error of a file that should be an archive.
var errNotArchive = errors.New("not a tar archive")

// unpackFile unpacks an archive on this machine. It returns errNotArchive for other
// files.
func (s *Sources) unpackFile(ctx context.Context, path, shown string) (location, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is neither a directory nor a file: send an archive by standard input, with - as the context", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	in, isArchive, err := sniff(interruptible(ctx, f))
	if err != nil {
		return nil, err
	}
	if !isArchive {
		return nil, errNotArchive
	}
	return s.unpack(in, shown)
}

// sniff reports whether r begins as an archive does. The reader that it returns reads
// r from its beginning.
func sniff(r io.Reader) (*bufio.Reader, bool, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(source.ArchiveHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	return in, source.IsArchive(head), nil
}

// unpack unpacks an archive into a temporary directory.
func (s *Sources) unpack(r io.Reader, shown string) (a archive, err error) {
	v := s.Progress.Vertex(shown)
	v.Start()
	defer func() { v.Done(err) }()
	if a.dir, err = s.Store.TempDir("context"); err != nil {
		return a, err
	}
	a.files, err = source.Unpack(a.dir, r, s.Limits.Archive())
	return a, limits.Explain(err)
}
