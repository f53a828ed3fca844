package source

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// WalkOptions filter the files below a walked directory, in addition to the ignore file.
// The directory itself is never filtered. The patterns have the syntax of ignore files,
// and match paths relative to the walked directory.
type WalkOptions struct {
	Include []string // unless empty: only matching files, those below them, and their parent directories
	Exclude []string // excludes files; "!" includes them again
}

// Walk calls f for the file at path, whose symlinks are not followed (see Resolve). If that
// is a directory, it calls f for all files below it that are not excluded, in bytewise
// order of their paths: "a", "a.b", "a/c". It reads only this subtree. An excluded
// directory appears if a file below it is included again. An error of f ends the walk and
// is returned.
func (d *Dir) Walk(ctx context.Context, path string, o WalkOptions, f func(File) error) error {
	root, err := d.Lstat(path)
	if err != nil {
		return err
	}
	if err := f(root); err != nil || root.Type != listing.TypeDir {
		return err
	}
	w, err := d.newWalker(ctx, root.Path, o, f)
	if err != nil {
		return err
	}
	defer w.stop()
	fd, err := d.openat(root.Path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return pathError("open", root.Path, err)
	}
	fr := &frame{fd: fd, path: root.Path, states: states{ignore: d.ignore.state(root.Path)}}
	return w.dir(fr, make([]byte, listBuffer))
}

// walker walks directories in order. Helper goroutines load directories in advance, that
// is, they list and sort the names and call fstatat for each. The walker itself loads a
// directory that no helper has begun to load.
type walker struct {
	*Dir
	ctx              context.Context
	f                func(File) error
	include, exclude *patterns       // relative to the walked directory
	base             int             // length of the part before such relative paths
	back             map[string]bool // for excluded directories: whether a file below is included again
	prefetch
}

// states are the states of the patterns for a directory.
type states struct {
	ignore, include, exclude matched
}

// frame is a directory being walked.
type frame struct {
	states
	fd      int // -1 while closed, see maxOpen
	path    string
	depth   int
	pending []*child // directories that were passed to f and not entered yet
}

// entry is a name in a directory that may be part of the walk.
type entry struct {
	File
	in    bool   // it is part of the walk; otherwise a file below it may be
	child *child // for a directory
}

// maxOpen is the maximum number of directories that one walk keeps open. Deeper ones are
// closed while their children are walked.
const maxOpen = 128

const listBuffer = 32 << 10

func (d *Dir) newWalker(ctx context.Context, root string, o WalkOptions, f func(File) error) (*walker, error) {
	w := &walker{Dir: d, ctx: ctx, f: f}
	if root != "." {
		w.base = len(root) + 1
	}
	var err error
	if w.include, err = newPatterns(o.Include); err != nil {
		return nil, fmt.Errorf("include: %w", err)
	}
	if w.exclude, err = newPatterns(o.Exclude); err != nil {
		return nil, fmt.Errorf("exclude: %w", err)
	}
	return w, nil
}

// dir loads a directory and walks it.
func (w *walker) dir(fr *frame, buf []byte) error {
	entries, err := w.load(fr, buf)
	if err != nil {
		fr.close()
		return err
	}
	return w.entries(fr, entries, buf)
}

// entries walks the entries of a directory, and closes it.
func (w *walker) entries(fr *frame, entries []entry, buf []byte) error {
	defer fr.close()
	w.offer(fr, entries)
	defer w.abandon(entries)
	for i := range entries {
		e := &entries[i]
		if err := w.descend(fr, e.name(fr), buf); err != nil {
			return err
		}
		if err := w.visit(fr, e, buf); err != nil {
			return err
		}
	}
	return w.descend(fr, "", buf)
}

// name is the entry's name in the directory being walked.
func (e *entry) name(fr *frame) string {
	if fr.path == "." {
		return e.path
	}
	return e.path[len(fr.path)+1:]
}

// load reads the entries of a directory that are not excluded, and excluded directories in
// which a file may be included again.
func (w *walker) load(fr *frame, buf []byte) ([]entry, error) {
	items, err := list(fr.fd, fr.path, buf)
	if err == unix.ENOENT {
		return nil, nil // it was removed while it was open
	}
	if err != nil {
		return nil, pathError("list", fr.path, err)
	}
	known := w.hints.enter(fr.path, items)
	entries := make([]entry, 0, len(items))
	for i, it := range items {
		if i%256 == 0 && w.ctx.Err() != nil {
			return nil, w.ctx.Err()
		}
		in, lead, st, dead := w.decide(it, fr.states)
		if dead || special(it.kind) {
			continue
		}
		f, err := w.stat(fr, it, known)
		if err != nil {
			if err = vanished(err); err != nil {
				return nil, err
			}
			continue
		}
		if f.Type == listing.TypeDir {
			f.Lead = lead
			entries = append(entries, entry{File: f, in: in, child: newChild(fr, it, st, !in)})
		} else if in {
			entries = append(entries, entry{File: f, in: true})
		}
	}
	return entries, nil
}

func (w *walker) stat(fr *frame, it item, known hintList) (File, error) {
	if len(it.path) > maxPath {
		return File{}, pathError("list", it.path[:200]+"...", unix.ENAMETOOLONG)
	}
	var stat unix.Stat_t
	if err := lstat(fr.fd, it.name, &stat); err != nil {
		return File{}, pathError("stat", it.path, err)
	}
	return w.known(fr.fd, it.name, it.path, &stat, known.find)
}

func (fr *frame) close() {
	if fr.fd >= 0 {
		unix.Close(fr.fd)
	}
	fr.fd = -1
}

// reopen opens a directory that was closed while its children were walked.
func (w *walker) reopen(fr *frame) error {
	if fr.fd >= 0 {
		return nil
	}
	fd, err := w.openat(fr.path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return pathError("open", fr.path, err)
	}
	fr.fd = fd
	return nil
}

// visit passes an entry to f. It adds a directory to the pending ones.
func (w *walker) visit(fr *frame, e *entry, buf []byte) error {
	if !e.in {
		if err := w.reopen(fr); err != nil {
			return err
		}
		if !w.comesBack(fr.fd, item{path: e.path, name: e.child.name}, e.child.states, buf) {
			return nil
		}
		e.child.parent = fr.fd
	}
	if e.child != nil {
		fr.pending = append(fr.pending, e.child)
	}
	return w.f(e.File)
}

func special(kind byte) bool {
	return kind == unix.DT_SOCK || kind == unix.DT_CHR || kind == unix.DT_BLK
}

// vanished returns nil for the errors of files that were removed since they were listed,
// and of special files. It returns other errors unchanged.
func vanished(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, ErrSpecial) {
		return nil
	}
	return err
}

// descend enters the pending directories whose files are sorted before next, the next name
// in this directory ("" for the end).
func (w *walker) descend(fr *frame, next string, buf []byte) error {
	for len(fr.pending) > 0 {
		c := fr.pending[len(fr.pending)-1]
		if strings.HasPrefix(next, c.name) && next[len(c.name)] < '/' {
			return nil
		}
		fr.pending = fr.pending[:len(fr.pending)-1]
		if err := w.enter(fr, c, buf); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) enter(fr *frame, c *child, buf []byte) error {
	if c.claim() {
		c.done = nil // no helper will
		if err := w.reopen(fr); err != nil {
			return err
		}
		w.loadChild(c, fr.fd, buf)
	} else {
		w.collect(c)
	}
	switch err := c.err; {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EACCES) && c.part:
		return nil
	case err != nil:
		return err
	}
	if fr.depth >= maxOpen {
		fr.close()
	}
	entries := c.entries
	c.entries = nil // the parent's entries keep the child itself in memory
	return w.entries(&c.frame, entries, buf)
}

func openDir(parent int, name string) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

// decide returns whether a name is in the walk. For an excluded name, lead means that the
// options of the walk exclude it, and dead that no file below it can be included again.
// The returned states are for the files below.
func (w *walker) decide(it item, parent states) (in, lead bool, st states, dead bool) {
	maybeDir := it.kind == unix.DT_DIR || it.kind == unix.DT_UNKNOWN
	in = true
	if w.ignore != nil && !w.judge(w.ignore, it.path, maybeDir, parent.ignore, &st.ignore, &dead) {
		in = false
	}
	if w.exclude != nil && !w.judge(w.exclude, it.path[w.base:], maybeDir, parent.exclude, &st.exclude, &dead) {
		in, lead = false, true
	}
	if w.include == nil {
		return in, lead, st, dead
	}
	rel := it.path[w.base:]
	if i := w.include.next(rel, maybeDir, parent.include, &st.include); i < 0 {
		in, lead = false, true
		dead = dead || !maybeDir || w.include.prunable(rel, false)
	}
	return in, lead, st, dead
}

// judge applies patterns of excluded files. It returns false for an excluded name.
func (w *walker) judge(m *patterns, path string, maybeDir bool, parent matched, st *matched, dead *bool) bool {
	if m.next(path, maybeDir, parent, st) < 0 {
		return true
	}
	*dead = *dead || !maybeDir || m.prunable(path, true)
	return false
}

// next is match, and sets the state for files below if the name may be a directory.
func (m *patterns) next(path string, maybeDir bool, parent matched, st *matched) (i int) {
	if !maybeDir {
		return m.match(path, parent, nil)
	}
	i, *st = m.enter(path, parent)
	return i
}

// comesBack reports whether a file below an excluded directory is part of the walk. It
// reads each directory once.
func (w *walker) comesBack(parent int, it item, st states, buf []byte) bool {
	if back, ok := w.back[it.path]; ok {
		return back
	}
	back := w.lookBelow(parent, it, st, buf)
	if w.back == nil {
		w.back = map[string]bool{}
	}
	w.back[it.path] = back
	return back
}

func (w *walker) lookBelow(parent int, dir item, st states, buf []byte) bool {
	fd, err := openDir(parent, dir.name)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	items, err := list(fd, dir.path, buf)
	if err != nil || len(dir.path) > maxPath || w.ctx.Err() != nil {
		return false
	}
	for _, it := range items {
		in, _, below, dead := w.decide(it, st)
		if in && !special(it.kind) || !dead && it.kind != unix.DT_REG && w.comesBack(fd, it, below, buf) {
			return true
		}
	}
	return false
}

// known returns a File with its attributes, and with its digest if that is cached.
func (d *Dir) known(dir int, name, path string, st *unix.Stat_t, hinted func(name string) (hint, bool)) (File, error) {
	f, err := d.file(dir, name, path, st)
	if err != nil {
		return f, pathError("list", path, err)
	}
	if d.tar != nil {
		d.tar.complete(&f)
		return f, nil
	}
	switch f.Type {
	case listing.TypeFile:
		h, ok := hinted(name)
		if ok = ok && h.stamp == f.stamp; ok {
			f.Digest = layer.FromSum(h.sum[:])
		}
		if ok && !h.attrs {
			return f, nil
		}
		f.XAttrs = d.xattrs(dir, name)
		f.attrs = f.XAttrs != nil
	case listing.TypeDir:
		f.XAttrs = d.xattrs(dir, name)
	}
	return f, nil
}
