package diff

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/index"
)

// scan reads the upper directory without changing it. Then decide says what is
// part of the layer, and settle makes the directory just that.
type scan struct {
	ctx   context.Context
	upper place // the upper directory
	o     Options
	tasks *errgroup.Group
	seen  atomic.Int64 // entries so far
	nodes []*node      // parents before children
}

type inode struct{ dev, ino uint64 }

// node is one path of the upper directory, or a child that it hides.
type node struct {
	index.Entry
	parent  *node
	inode   inode
	lower   inode // of the lower file that it is equal to
	below   int64 // mtime of that
	links   uint64
	emit    bool     // it is part of the layer
	socket  bool     // to be removed: no layer holds one
	missing bool     // a whiteout that is not on disk yet
	opaque  bool     // a directory that hides what is below; so do those in it
	retime  bool     // its mtime on disk is not Entry.MTime
	overlay []string // attributes of the overlay to be removed
}

func (s *scan) run(lowers []string) error {
	var st unix.Stat_t
	if err := unix.Fstat(s.upper.fd, &st); err != nil {
		return err
	}
	w := &walker{scan: s}
	root := w.add(nil, ".", &st)
	if err := w.readAttributes(root, &st); err != nil {
		return err
	}
	below := s.o.root()
	if s.o.Owner != nil {
		root.UID, root.GID = below.UID, below.GID
	}
	root.emit = root.Mode != below.Mode || root.UID != below.UID || root.GID != below.GID || !sameXAttrs(root.XAttrs, below.XAttrs)
	if !root.emit {
		root.MTime = below.MTime
	}
	root.retime = true
	m := &merged{lowers: make([]place, len(lowers))}
	for i, path := range lowers {
		m.lowers[i] = place{unix.AT_FDCWD, path + "/"}
	}
	s.tasks, s.ctx = errgroup.WithContext(s.ctx)
	s.tasks.SetLimit(runtime.GOMAXPROCS(0))
	s.tasks.Go(func() error { return w.dir(root, m) })
	if err := s.tasks.Wait(); err != nil {
		return err
	}
	s.nodes = w.collect(make([]*node, 0, s.seen.Load()+1))
	return nil
}

// walker is one goroutine's part of a scan: some directory and what is below.
type walker struct {
	*scan
	nodes []*node
	parts []*walker // parts of this part
	slab  []node
	buf   []byte // for reading directories
}

// collect appends all nodes, parents before children.
func (w *walker) collect(all []*node) []*node {
	all = append(all, w.nodes...)
	for _, part := range w.parts {
		all = part.collect(all)
	}
	return all
}

const manyEntries = 512 // from so many on the work is shared

// descend reads a directory, in a goroutine of its own if there is much to do.
func (w *walker) descend(n *node, m *merged) error {
	part := &walker{scan: w.scan}
	work := func() error {
		defer m.close()
		return part.dir(n, m)
	}
	if w.seen.Load() > manyEntries && w.tasks.TryGo(work) {
		w.parts = append(w.parts, part)
		return nil
	}
	defer m.close()
	return w.dir(n, m)
}

// add makes a node. Slabs grow, so that a small layer costs little.
func (w *walker) add(parent *node, path string, st *unix.Stat_t) *node {
	if len(w.slab) == 0 {
		w.slab = make([]node, min(max(len(w.nodes), 4), 128))
	}
	n := &w.slab[0]
	w.slab = w.slab[1:]
	w.nodes = append(w.nodes, n)
	w.seen.Add(1)
	n.init(parent, path, st, w.o.Epoch)
	return n
}

func (n *node) init(parent *node, path string, st *unix.Stat_t, epoch *int64) {
	*n = node{
		parent: parent,
		inode:  inode{st.Dev, st.Ino},
		links:  1,
		Entry:  index.Entry{Path: path, Type: typeOf(st), Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), MTime: st.Mtim.Sec},
	}
	if epoch != nil {
		n.MTime = min(n.MTime, *epoch)
	}
	n.retime = st.Mtim.Nsec != 0 || n.MTime != st.Mtim.Sec
	switch n.Type {
	case index.TypeFile:
		n.Size, n.links = st.Size, uint64(st.Nlink)
	case index.TypeChar, index.TypeBlock:
		n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case index.TypeWhiteout:
		n.whiteout()
	}
}

func (n *node) whiteout() {
	n.Entry = index.Entry{Path: n.Path, Type: index.TypeWhiteout}
	n.retime = false
}

// typeOf returns 0 for a socket.
func typeOf(st *unix.Stat_t) index.Type {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return index.TypeFile
	case unix.S_IFDIR:
		return index.TypeDir
	case unix.S_IFLNK:
		return index.TypeSymlink
	case unix.S_IFBLK:
		return index.TypeBlock
	case unix.S_IFIFO:
		return index.TypeFifo
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			return index.TypeWhiteout
		}
		return index.TypeChar
	}
	return 0
}

// readAttributes fills in what stat does not say. Only regular files and
// directories have attributes that a layer keeps.
func (w *walker) readAttributes(n *node, st *unix.Stat_t) error {
	at := w.upper.child(n.Path)
	var err error
	switch n.Type {
	case index.TypeSymlink:
		n.Link, err = at.readlink(int(st.Size))
	case index.TypeFile, index.TypeDir:
		n.XAttrs, n.overlay, err = at.xattrs()
	}
	return err
}

// manyLookups is how many look-ups in lower directories cost more than to list
// these directories.
const manyLookups = 2048

// dir reads the directory n, whose lower directories are merged in m.
func (w *walker) dir(n *node, m *merged) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	names, err := w.upper.child(n.Path).names(&w.buf)
	if err != nil {
		return &os.PathError{Op: "read", Path: n.Path, Err: err}
	}
	if len(m.lowers) > 0 && (n.opaque || len(names)*len(m.lowers) > manyLookups) {
		if err := m.list(&w.buf); err != nil {
			return &os.PathError{Op: "read the lower", Path: n.Path, Err: err}
		}
	}
	for _, name := range names {
		if err := w.entry(n, m, name); err != nil {
			return err
		}
	}
	if n.opaque {
		return w.hidden(n, m, names)
	}
	return nil
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func (w *walker) entry(parent *node, m *merged, name string) error {
	path := join(parent.Path, name)
	if len(path) > index.MaxPath {
		return fmt.Errorf("%s: the path is longer than %d bytes", path, index.MaxPath)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(w.upper.fd, path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	n := w.add(parent, path, &st)
	if n.Type == index.TypeDir {
		return w.subdir(n, m, name, &st)
	}
	below, found, err := m.find(name)
	if err == nil {
		err = w.file(n, &st, below, found)
	}
	if err != nil {
		return &os.PathError{Op: "compare", Path: path, Err: err}
	}
	return nil
}

// file decides on what is no directory.
func (w *walker) file(n *node, st *unix.Stat_t, below lowerFile, found bool) error {
	switch {
	case n.Type == index.TypeWhiteout:
		n.emit = found
		return nil
	case n.Type == 0 && found:
		n.whiteout()
		n.emit, n.missing = true, true
		return nil
	case n.Type == 0:
		n.socket = true
		return nil
	}
	if err := w.readAttributes(n, st); err != nil {
		return err
	}
	return w.compare(n, st, below, found)
}

func (w *walker) compare(n *node, st *unix.Stat_t, below lowerFile, found bool) error {
	if !found {
		n.emit = true
		return nil
	}
	same, err := w.equal(n, st, below)
	n.emit = !same
	n.lower, n.below = inode{below.st.Dev, below.st.Ino}, below.st.Mtim.Sec
	return err
}

func (w *walker) subdir(n *node, m *merged, name string, st *unix.Stat_t) error {
	below, found, sub, err := m.descend(name)
	if err == nil {
		err = w.readAttributes(n, st)
	}
	if err == nil {
		err = w.compare(n, st, below, found)
	}
	if err != nil {
		sub.close()
		return &os.PathError{Op: "compare", Path: n.Path, Err: err}
	}
	n.opaque = n.parent.opaque || slices.Contains(n.overlay, opaqueName) && isOpaque(w.upper.child(n.Path))
	return w.descend(n, sub)
}

// hidden adds a whiteout for each child of the lower directories that an
// opaque directory lacks.
func (w *walker) hidden(n *node, m *merged, names []string) error {
	for _, name := range m.missing(names) {
		_, found, err := m.find(name)
		if err != nil {
			return &os.PathError{Op: "compare", Path: join(n.Path, name), Err: err}
		}
		if found {
			hidden := w.add(n, join(n.Path, name), &unix.Stat_t{Mode: unix.S_IFCHR})
			hidden.emit, hidden.missing = true, true
		}
	}
	return nil
}
