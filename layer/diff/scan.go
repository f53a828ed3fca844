package diff

import (
	"context"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/index"
)

// scan reads the upper directory without changing it. Then keepLinks decides
// on hard links, and settle makes the directory what the layer says.
type scan struct {
	ctx   context.Context
	upper place // the upper directory
	o     Options
	nodes []*node // parents before children
	links map[inode][]*node
	slab  []node
	buf   []byte // for reading directories
}

type inode struct{ dev, ino uint64 }

// node is one path of the upper directory, or a child that it hides.
type node struct {
	index.Entry
	parent  *node
	inode   inode
	lower   inode // of the lower file that a dropped one is equal to
	links   uint64
	emit    bool     // it is part of the layer
	stub    bool     // made by the sandbox, or a socket: to be removed, with all below
	missing bool     // a whiteout that is not on disk yet
	opaque  bool     // a directory that hides what is below; so do those in it
	retime  bool     // its mtime on disk is not Entry.MTime
	overlay []string // attributes of the overlay to be removed
}

// keep makes a node and all its ancestors part of the layer. The root comes in
// only by its own attributes.
func (n *node) keep() {
	for ; n.parent != nil && !n.emit; n = n.parent {
		n.emit = true
	}
}

func (s *scan) run(lowers []string) error {
	var st unix.Stat_t
	if err := unix.Fstat(s.upper.fd, &st); err != nil {
		return err
	}
	root := s.add(nil, ".", &st)
	if err := s.readAttributes(root, &st); err != nil {
		return err
	}
	below := s.o.root()
	root.emit = root.Mode != below.Mode || root.UID != below.UID || root.GID != below.GID || !sameXAttrs(root.XAttrs, below.XAttrs)
	if !root.emit {
		root.MTime = below.MTime
	}
	root.retime = true
	m := &merged{lowers: make([]place, len(lowers))}
	for i, path := range lowers {
		m.lowers[i] = place{unix.AT_FDCWD, path + "/"}
	}
	return s.dir(root, m)
}

func (s *scan) add(parent *node, path string, st *unix.Stat_t) *node {
	if len(s.slab) == 0 {
		s.slab = make([]node, 64)
	}
	n := &s.slab[0]
	s.slab = s.slab[1:]
	*n = node{
		parent: parent,
		inode:  inode{st.Dev, st.Ino},
		links:  1,
		Entry:  index.Entry{Path: path, Type: typeOf(st), Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid)},
	}
	n.MTime = st.Mtim.Sec
	if s.o.Epoch != nil {
		n.MTime = min(n.MTime, *s.o.Epoch)
	}
	n.retime = st.Mtim.Nsec != 0 || n.MTime != st.Mtim.Sec
	switch n.Type {
	case index.TypeFile:
		n.Size, n.links = st.Size, uint64(st.Nlink)
	case index.TypeChar, index.TypeBlock:
		n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case index.TypeWhiteout:
		n.Entry = index.Entry{Path: path, Type: index.TypeWhiteout}
		n.retime = false
	}
	s.nodes = append(s.nodes, n)
	return n
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
func (s *scan) readAttributes(n *node, st *unix.Stat_t) error {
	at := s.upper.child(n.Path)
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
func (s *scan) dir(n *node, m *merged) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	names, err := s.upper.child(n.Path).names(&s.buf)
	if err != nil {
		return &os.PathError{Op: "read", Path: n.Path, Err: err}
	}
	if n.opaque || len(names)*len(m.lowers) > manyLookups {
		if err := m.list(&s.buf); err != nil {
			return err
		}
	}
	for _, name := range names {
		path := join(n.Path, name)
		if err := s.entry(n, m, path, name); err != nil {
			return &os.PathError{Op: "compare", Path: path, Err: err}
		}
	}
	if n.opaque {
		return s.hidden(n, m, names)
	}
	return nil
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func (s *scan) entry(parent *node, m *merged, path, name string) error {
	if len(path) > index.MaxPath {
		return fmt.Errorf("the path is longer than %d bytes", index.MaxPath)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(s.upper.fd, path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	n := s.add(parent, path, &st)
	if n.Type == index.TypeDir && !s.o.Ignore[path] {
		return s.subdir(n, m, name, &st)
	}
	below, found, err := m.find(name)
	switch {
	case err != nil:
		return err
	case s.o.Ignore[path] && !found:
		n.stub = true
		return nil
	case n.Type == index.TypeDir:
		return s.subdir(n, m, name, &st)
	case n.Type == 0:
		n.stub = true
		if found {
			s.hide(parent, path)
		}
		return nil
	case n.Type == index.TypeWhiteout:
		if found {
			n.keep()
		}
		return nil
	}
	return s.compare(n, &st, below, found)
}

// compare decides on what is no directory.
func (s *scan) compare(n *node, st *unix.Stat_t, below lowerFile, found bool) error {
	if err := s.readAttributes(n, st); err != nil {
		return err
	}
	if n.Type == index.TypeFile && n.links > 1 {
		s.links[n.inode] = append(s.links[n.inode], n)
	}
	same := false
	if found {
		var err error
		if same, err = s.equal(n, st, below); err != nil {
			return err
		}
	}
	if same {
		n.lower = inode{below.st.Dev, below.st.Ino}
	} else {
		n.keep()
	}
	return nil
}

func (s *scan) subdir(n *node, m *merged, name string, st *unix.Stat_t) error {
	if err := s.readAttributes(n, st); err != nil {
		return err
	}
	n.opaque = n.parent.opaque || slices.Contains(n.overlay, opaqueName) && isOpaque(s.upper.child(n.Path))
	below, found, sub, err := m.descend(name)
	if err != nil {
		return err
	}
	defer sub.close()
	same := false
	if found {
		if same, err = s.equal(n, st, below); err != nil {
			return err
		}
	}
	if !same {
		n.keep()
	}
	return s.dir(n, sub)
}

// hidden adds a whiteout for each child of the lower directories that an
// opaque directory lacks.
func (s *scan) hidden(n *node, m *merged, names []string) error {
	for _, name := range m.missing(names) {
		_, found, err := m.find(name)
		if err != nil {
			return &os.PathError{Op: "compare", Path: join(n.Path, name), Err: err}
		}
		if found {
			s.hide(n, join(n.Path, name))
		}
	}
	return nil
}

// hide adds a whiteout that is not on disk.
func (s *scan) hide(parent *node, path string) {
	n := s.add(parent, path, &unix.Stat_t{Mode: unix.S_IFCHR})
	n.missing = true
	n.keep()
}

// keepLinks keeps all names of a file when one of them is part of the layer,
// or when they are equal to files below that are not linked to each other: a
// hard link's target is in its own layer.
func (s *scan) keepLinks() {
	for _, group := range s.links {
		changed := false
		for _, n := range group {
			changed = changed || n.emit || n.lower != group[0].lower
		}
		if changed {
			for _, n := range group {
				n.keep()
			}
		}
	}
}
