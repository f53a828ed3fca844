package source

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

// maxLinks is the maximum number of symlinks followed in one path.
const maxLinks = 255

// Lstat returns the file at a path without following symlinks. If the file is missing, the
// error matches fs.ErrNotExist. If the ignore file excludes it, the error is an
// IgnoredError, which matches that too.
func (d *Dir) Lstat(path string) (File, error) {
	p := clean(path)
	f, err := d.lstat(p)
	if err != nil {
		return f, err
	}
	return f, d.visible(&f)
}

// lstat is Lstat without the ignore file.
func (d *Dir) lstat(p string) (File, error) {
	dir, name := path.Split(p)
	fd := d.root
	if dir != "" {
		parent, err := d.openat(dir[:len(dir)-1], unix.O_PATH|unix.O_DIRECTORY)
		if err == unix.ENOTDIR || err == unix.ELOOP {
			err = unix.ENOENT // an element is a file or a symlink
		}
		if err != nil {
			return File{}, pathError("stat", p, err)
		}
		defer unix.Close(parent)
		fd = parent
	}
	name = (name + "\x00")[:len(name)]
	var st unix.Stat_t
	if err := lstat(fd, name, &st); err != nil {
		return File{}, pathError("stat", p, err)
	}
	return d.known(fd, name, p, &st, func(name string) (hint, bool) { return d.hints.find(path.Clean(dir), name) })
}

// visible returns an IgnoredError unless f is part of the context.
func (d *Dir) visible(f *File) error {
	pattern, ignored := d.Ignored(f.path)
	if !ignored || f.Type == listing.TypeDir && d.reincluded(f.path) {
		return nil
	}
	return &IgnoredError{Path: f.path, Pattern: pattern}
}

// reincluded reports whether a file below an ignored directory is not ignored.
func (d *Dir) reincluded(dir string) bool {
	if d.ignore.prunable(dir, true) {
		return false
	}
	found := errors.New("found")
	w, err := d.newWalker(context.Background(), ".", WalkOptions{}, func(File) error { return found })
	if err != nil {
		return false
	}
	fd, err := d.openat(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	err = w.dir(&frame{fd: fd, path: dir, states: states{ignore: d.ignore.state(dir)}}, make([]byte, listBuffer))
	w.stop()
	return err == found
}

// Resolve follows the symlinks in a path and returns the resulting file, whose Path is the
// resolved one. Absolute targets are relative to the context's root, and ".." stays below
// it. The last element is followed only if followLast is set. A loop is an error that
// matches ELOOP. Missing and ignored files and links are the same errors as for Lstat.
//
// It does not use the kernel's resolution, because links too can be ignored.
func (d *Dir) Resolve(path string, followLast bool) (File, error) {
	todo := elements(clean(path))
	at, links := ".", 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			at = clean(at + "/..")
			continue
		}
		f, err := d.lstat(join(at, name))
		if err != nil {
			return File{}, d.explain(path, join(at, name), todo, err)
		}
		if f.Type != listing.TypeSymlink || len(todo) == 0 && !followLast {
			at = f.path
			continue
		}
		if err := d.visible(&f); err != nil {
			return File{}, err
		}
		if links++; links > maxLinks {
			return File{}, pathError("resolve", clean(path), unix.ELOOP)
		}
		if strings.HasPrefix(f.Link, "/") {
			at = "."
		}
		todo = append(elements(f.Link), todo...)
	}
	return d.Lstat(at)
}

// elements splits a path into its elements. It keeps "..", which depends on the symlinks
// before it.
func elements(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(s string) bool { return s == "" || s == "." })
}

// explain returns the error for the path that the caller has asked for, given the error
// for the element at.
func (d *Dir) explain(asked, at string, rest []string, err error) error {
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	full := path.Join(append([]string{at}, rest...)...)
	if full = clean(full); full == clean(asked) {
		return pathError("stat", full, unix.ENOENT)
	}
	return pathError("resolve", clean(asked), &fs.PathError{Op: "stat", Path: full, Err: unix.ENOENT})
}

// Glob returns the paths that match a source pattern of COPY, sorted bytewise and not
// resolved: callers Resolve each.
//
// Symlinks before the first element with a wildcard are followed. The other elements are
// matched by filepath.Match, and symlinks among them are not entered. The result for a
// pattern without a wildcard is the cleaned pattern, even if the file does not exist. The
// result for other patterns may be empty.
func (d *Dir) Glob(ctx context.Context, pattern string) ([]string, error) {
	if _, err := filepath.Match(pattern, ""); err != nil {
		return nil, pathError("match", pattern, err)
	}
	literal, wild := splitWildcards(clean(pattern))
	if len(wild) == 0 {
		return []string{literal}, nil
	}
	base, err := d.Resolve(literal, true)
	if err != nil || base.Type != listing.TypeDir {
		return nil, err
	}
	g := globber{Dir: d, ctx: ctx, buf: make([]byte, 32<<10)}
	if err := g.dir(base.Path, wild); err != nil {
		return nil, err
	}
	slices.Sort(g.found)
	return g.found, nil
}

// splitWildcards cuts a pattern before its first element with a wildcard.
func splitWildcards(pattern string) (literal string, wild []string) {
	all := elements(pattern)
	for i, element := range all {
		if HasWildcard(element) {
			return clean(strings.Join(all[:i], "/")), all[i:]
		}
	}
	return pattern, nil
}

// HasWildcard reports whether a path element has a wildcard of filepath.Match that is
// not escaped.
func HasWildcard(element string) bool {
	for i := 0; i < len(element); i++ {
		switch element[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

type globber struct {
	*Dir
	ctx   context.Context
	buf   []byte
	found []string
}

func (g *globber) dir(dir string, wild []string) error {
	if err := g.ctx.Err(); err != nil {
		return err
	}
	fd, err := g.openat(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return pathError("open", dir, err)
	}
	defer unix.Close(fd)
	items, err := list(fd, dir, g.buf)
	if err != nil {
		return pathError("list", dir, err)
	}
	for _, it := range items {
		if ok, err := filepath.Match(wild[0], it.name); err != nil || !ok {
			continue // an error is impossible: the pattern was checked
		}
		if err := g.match(it, wild[1:]); err != nil {
			return err
		}
	}
	return nil
}

// match continues with the next element of the pattern for a name that matched.
func (g *globber) match(it item, rest []string) error {
	if len(rest) == 0 {
		_, err := g.Lstat(it.path)
		if err == nil {
			g.found = append(g.found, strings.Clone(it.path))
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it is ignored, has vanished, or is a socket
		}
		return err
	}
	f, err := g.lstat(it.path)
	if err != nil || f.Type != listing.TypeDir {
		return vanished(err)
	}
	if pattern, ignored := g.Ignored(it.path); ignored && pattern != "" && g.ignore.prunable(it.path, true) {
		return nil
	}
	return g.dir(it.path, rest)
}
