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

	"github.com/cairn-build/cairn/layer/listing"
)

// scan reads the upper directory without changing it. Then decide selects the nodes
// that are part of the layer, and settle changes the directory to match.
type scan struct {
	ctx   context.Context
	upper place // the upper directory
	o     Options
	tasks *errgroup.Group
	seen  atomic.Int64 // number of entries so far
	nodes []*node      // parents before children
}

type inode struct{ dev, ino uint64 }

// node is a path of the upper directory, or a child that it hides.
type node struct {
	listing.Entry
	parent  *node
	inode   inode
	lower   inode         // inode of the equal lower file
	mtime   unix.Timespec // on disk; Entry.MTime is that of the layer
	links   uint64
	emit    bool     // part of the layer
	keep    bool     // part of the tree
	socket  bool     // to be removed, since layers cannot contain it
	missing bool     // a whiteout to be made
	opaque  bool     // a directory that hides the one below; so do directories in it
	retime  bool     // a directory whose mtime settling changes
	overlay []string // the overlay's attributes, to be removed
	from    *Upper   // nil for a node of a directory on disk
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
	s.setRoot(root)
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

// setRoot compares the root directory with the one below.
func (s *scan) setRoot(root *node) {
	below := s.o.root()
	if s.o.Owner != nil {
		root.UID, root.GID = below.UID, below.GID
	}
	root.emit = root.UID != below.UID || root.GID != below.GID || !sameXAttrs(root.XAttrs, below.XAttrs)
	if !root.emit {
		root.MTime = below.MTime
	}
	root.keep, root.retime, root.mtime = true, true, unix.Timespec{Sec: root.MTime}
}

// walker is the part of a scan that one goroutine does: a directory and everything
// below it.
type walker struct {
	*scan
	nodes []*node
	parts []*walker // walkers of subdirectories
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

const manyEntries = 512 // number of entries from which on goroutines are started

// descend reads a directory, in a new goroutine if there are many entries.
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

// add makes a node. The blocks for nodes grow, so that a small layer takes little
// memory.
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
		mtime:  st.Mtim,
		links:  1,
		Entry:  listing.Entry{Path: path, Type: typeOf(st), Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), MTime: st.Mtim.Sec},
	}
	if epoch != nil {
		n.MTime = min(n.MTime, *epoch)
	}
	switch n.Type {
	case listing.TypeFile:
		n.Size, n.links = st.Size, uint64(st.Nlink)
	case listing.TypeChar, listing.TypeBlock:
		n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case listing.TypeWhiteout:
		n.whiteout()
	}
}

func (n *node) whiteout() {
	n.Entry = listing.Entry{Path: n.Path, Type: listing.TypeWhiteout}
}

func typeOf(st *unix.Stat_t) listing.Type { return TypeOf(st.Mode, st.Rdev == 0) }

// TypeOf returns the type of a file with the given mode, or 0 for a socket. A character
// device with the number 0 is a whiteout.
func TypeOf(mode uint32, noDevice bool) listing.Type {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return listing.TypeFile
	case unix.S_IFDIR:
		return listing.TypeDir
	case unix.S_IFLNK:
		return listing.TypeSymlink
	case unix.S_IFBLK:
		return listing.TypeBlock
	case unix.S_IFIFO:
		return listing.TypeFifo
	case unix.S_IFCHR:
		if noDevice {
			return listing.TypeWhiteout
		}
		return listing.TypeChar
	}
	return 0
}

// readAttributes sets the attributes that stat does not return. Layers contain
// extended attributes of regular files and directories only.
func (w *walker) readAttributes(n *node, st *unix.Stat_t) error {
	at := w.upper.child(n.Path)
	var err error
	switch n.Type {
	case listing.TypeSymlink:
		n.Link, err = at.readlink(int(st.Size))
	case listing.TypeFile, listing.TypeDir:
		n.XAttrs, n.overlay, err = at.xattrs()
	}
	return err
}

// manyLookups is the number of lookups in lower directories that take longer than
// listing these directories.
const manyLookups = 2048

// dir reads the directory n, whose merged lower directory is m.
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

func (w *walker) entry(parent *node, m *merged, name string) error {
	path := listing.Join(parent.Path, name)
	if len(path) > listing.MaxPath {
		return fmt.Errorf("%s: the path is longer than %d bytes", path, listing.MaxPath)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(w.upper.fd, path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	n := w.add(parent, path, &st)
	if n.Type == listing.TypeDir {
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

// file compares a file that is not a directory with the lower one.
func (w *walker) file(n *node, st *unix.Stat_t, below lowerFile, found bool) error {
	if n.hasNoContent(found) {
		return nil
	}
	if err := w.readAttributes(n, st); err != nil {
		return err
	}
	return w.compare(n, st, below, found)
}

// hasNoContent reports whether a layer has no entry for the file itself, and then decides
// on a whiteout: for whiteouts, and for sockets, which no layer can have. found reports
// whether there is a lower file.
func (n *node) hasNoContent(found bool) bool {
	switch {
	case n.Type == listing.TypeWhiteout:
		n.emit = found
	case n.Type == 0 && found:
		n.whiteout()
		n.emit, n.missing = true, true
	case n.Type == 0:
		n.socket = true
	default:
		return false
	}
	return true
}

func (w *walker) compare(n *node, st *unix.Stat_t, below lowerFile, found bool) error {
	if !found {
		n.emit = true
		return nil
	}
	same, err := w.equal(n, st, below)
	n.emit = !same
	n.keep = n.mtime != below.st.Mtim
	n.lower = inode{below.st.Dev, below.st.Ino}
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

// hidden adds a whiteout for each child of the lower directories that is missing in
// an opaque directory.
func (w *walker) hidden(n *node, m *merged, names []string) error {
	for _, name := range m.missing(names) {
		_, found, err := m.find(name)
		if err != nil {
			return &os.PathError{Op: "compare", Path: listing.Join(n.Path, name), Err: err}
		}
		if found {
			hidden := w.add(n, listing.Join(n.Path, name), &unix.Stat_t{Mode: unix.S_IFCHR})
			hidden.emit, hidden.missing = true, true
		}
	}
	return nil
}
