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

	"github.com/cairn-build/cairn/layer/index"
)

// maxLinks is how many symlinks one path may cross.
const maxLinks = 255

// Lstat returns what is at path, following no symlink. What is missing gives
// an error that matches fs.ErrNotExist; what the ignore file leaves out gives
// an IgnoredError, which does so too.
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
			err = unix.ENOENT // an element is a file or, at this level, a symlink
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
	if !ignored || f.Type == index.TypeDir && d.reincluded(f.path) {
		return nil
	}
	return &IgnoredError{Path: f.path, Pattern: pattern}
}

// reincluded says whether something below an ignored directory is not ignored.
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

// Resolve follows the symlinks in path, absolute targets and ".." clamped at
// the context's root, and returns what is there; its Path is the resolved one.
// The last element is followed only when followLast is set. Loops give ELOOP;
// what is missing or ignored, links included, fails as with Lstat.
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
		if f.Type != index.TypeSymlink || len(todo) == 0 && !followLast {
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

// elements splits a path, and keeps "..": what it means is known only once the
// symlinks before it are resolved.
func elements(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(s string) bool { return s == "" || s == "." })
}

// explain gives the error about an element the path that the caller knows, and
// says when the ignore file would leave it out anyway.
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

// Glob returns the paths that match the source of a COPY, sorted bytewise and
// not resolved: callers Resolve each.
//
// What comes before the first element with a wildcard is followed through
// symlinks. From there on, elements match by filepath.Match and symlinks are
// not entered. A pattern without a wildcard gives itself, cleaned, be it there
// or not; one with a wildcard may give nothing.
func (d *Dir) Glob(ctx context.Context, pattern string) ([]string, error) {
	if _, err := filepath.Match(pattern, ""); err != nil {
		return nil, pathError("match", pattern, err)
	}
	literal, wild := splitWildcards(clean(pattern))
	if len(wild) == 0 {
		return []string{literal}, nil
	}
	base, err := d.Resolve(literal, true)
	if err != nil || base.Type != index.TypeDir {
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
		if hasWildcard(element) {
			return clean(strings.Join(all[:i], "/")), all[i:]
		}
	}
	return pattern, nil
}

func hasWildcard(element string) bool {
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
			continue // the pattern was checked as a whole
		}
		if err := g.match(it, wild[1:]); err != nil {
			return err
		}
	}
	return nil
}

// match takes a name whose element matched on to the next element.
func (g *globber) match(it item, rest []string) error {
	if len(rest) == 0 {
		_, err := g.Lstat(it.path)
		if err == nil {
			g.found = append(g.found, strings.Clone(it.path))
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // ignored, vanished, a socket
		}
		return err
	}
	f, err := g.lstat(it.path)
	if err != nil || f.Type != index.TypeDir {
		return vanished(err)
	}
	if pattern, ignored := g.Ignored(it.path); ignored && pattern != "" && g.ignore.prunable(it.path, true) {
		return nil
	}
	return g.dir(it.path, rest)
}
