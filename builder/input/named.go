package input

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
)

// TargetScheme marks a named context that is the image of another target.
const TargetScheme = "target:"

// imageScheme marks a named context that is an image.
const imageScheme = "docker-image://"

// namedContext is one additional context.
type namedContext struct {
	value string
	plan  plan.Named
	files location // nil until they are needed
}

// readNamed reads the values of the named contexts. A path must exist; a remote
// context is fetched only when a step needs it.
func (s *Sources) readNamed(ctx context.Context, r Request) (map[string]*namedContext, error) {
	named := map[string]*namedContext{}
	for _, c := range r.Named {
		name, err := plan.ContextName(c.Name)
		if err == nil {
			named[name] = &namedContext{value: c.Value}
			named[name].plan, err = planNamed(ctx, c.Value, r)
		}
		if err != nil {
			return nil, &ContextError{c.Name, err}
		}
	}
	return named, nil
}

// planNamed returns the image that a named context means, or none if it consists of
// files.
func planNamed(ctx context.Context, value string, r Request) (plan.Named, error) {
	if target, ok := strings.CutPrefix(value, TargetScheme); ok && r.IsTarget != nil {
		if !r.IsTarget(target) {
			return plan.Named{}, fmt.Errorf("%s: there is no target %s in this build", value, target)
		}
		return plan.Named{Target: target}, nil
	}
	if isURL(value) {
		_, err := git.Parse(value)
		if errors.Is(err, git.ErrNotGit) {
			err = nil
		}
		return plan.Named{}, err
	}
	if at, err := parseAddress(value); err != nil || at.repository != nil {
		return plan.Named{}, err
	}
	if ref, ok := strings.CutPrefix(value, imageScheme); ok {
		if ref == "scratch" {
			return plan.Named{Image: ref}, nil
		}
		full, err := r.FullName(ctx, ref)
		return plan.Named{Image: full}, err
	}
	if strings.HasPrefix(value, LayoutScheme) {
		dir, _, _ := splitLayout(value)
		_, err := os.Stat(dir)
		return plan.Named{Image: value}, err
	}
	if scheme, _, ok := strings.Cut(value, "://"); ok {
		return plan.Named{}, fmt.Errorf("%s:// is not supported: there are directories, files, docker-image://, oci-layout://, http(s):// and git URLs", scheme)
	}
	_, err := os.Stat(value)
	return plan.Named{}, err
}

// Named returns the named contexts by name, as the plan needs them.
func (in *Inputs) Named() map[string]plan.Named {
	named := map[string]plan.Named{}
	for name, c := range in.named {
		named[name] = c.plan
	}
	return named
}

// locate returns the files of a named context, and fetches them the first time.
func (in *Inputs) locate(ctx context.Context, name string) (location, error) {
	c := in.named[name]
	if c == nil {
		return nil, errors.New("there is no context of this name")
	}
	if c.files == nil {
		files, err := in.sources.fetchNamed(ctx, c.value, "[context "+name+"] ")
		if err != nil {
			return nil, err
		}
		c.files = files
	}
	return c.files, nil
}

// fetchNamed finds the files of a named context. A URL that is not a repository is a
// single file, even if it is an archive, unless it names a directory of one; a path may be a directory, an archive or a file.
func (s *Sources) fetchNamed(ctx context.Context, value, shown string) (location, error) {
	at, err := parseAddress(value)
	switch {
	case err != nil:
		return nil, err
	case at.repository != nil:
		return s.checkout(ctx, at.repository.Request(false), shown+source.Redact(value))
	case at.url:
		if _, _, ok := CutDirectory(value); ok {
			return s.fetchArchive(ctx, value)
		}
		return s.fetchFile(ctx, value, shown+source.Redact(value))
	case isDirectory(value):
		return userDir{value}, nil
	}
	files, err := s.unpackFile(ctx, value, shown+"load from client")
	if errors.Is(err, errNotArchive) {
		return s.copyFile(value)
	}
	return files, err
}

// copyFile copies a file of this machine into a directory of its own.
func (s *Sources) copyFile(path string) (location, error) {
	from, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	fi, err := from.Stat()
	if err != nil {
		return nil, err
	}
	return s.copyToDir(filepath.Base(path), from, fi.Mode(), fi.ModTime())
}

// copyToDir makes a directory with one file.
func (s *Sources) copyToDir(name string, from io.Reader, mode fs.FileMode, at time.Time) (f singleFile, err error) {
	f.name = name
	if f.dir, err = s.Store.TempDir("context"); err != nil {
		return f, err
	}
	to, err := os.OpenFile(filepath.Join(f.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return f, err
	}
	_, err = io.Copy(to, from)
	err = errors.Join(err, to.Chmod(mode), to.Close())
	return f, errors.Join(err, os.Chtimes(to.Name(), at, at))
}
