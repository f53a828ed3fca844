package diff

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
	"github.com/cairn-build/cairn/layer/tree"
)

// Upper is a path of the upper file system of a kernel that is not the machine's.
type Upper struct {
	listing.Entry // its MTime is not used; a socket has the type 0
	Time          time.Time
	Inode, Links  uint64
	Opaque        bool                          // a directory that hides the one below
	Open          func() (io.ReadCloser, error) // of a regular file with content
}

// Below describes the layers below an upper file system.
type Below struct {
	View *listing.View
	// Time returns the mtime that a path had in the step.
	Time func(n listing.Node) time.Time
	// Open opens a regular file.
	Open func(n listing.Node) (io.ReadCloser, error)
}

// ListedResult is the differences that Listed finds.
type ListedResult struct {
	Result
	// Tree has the changes and the files that differ from those below in their times only:
	// the tree that the next step must see.
	Tree []tarball.Change
}

// Listed returns the differences between the paths of an upper file system and the layers
// below: those that Overlay would find on the disk. The upper paths begin with the root;
// parents come before children.
func Listed(ctx context.Context, upper []Upper, below Below, o Options) (ListedResult, error) {
	l := &listed{walker: walker{scan: &scan{ctx: ctx, o: o}}, below: below, dirs: map[string]*listedDir{}, lowers: map[lowerID]uint64{}}
	for i := range upper {
		if ctx.Err() != nil {
			return ListedResult{}, context.Cause(ctx)
		}
		if err := l.add(&upper[i]); err != nil {
			return ListedResult{}, fmt.Errorf("read the changes of a step: %s: %w", upper[i].Path, err)
		}
	}
	l.hidden()
	l.scan.nodes = l.collect(nil)
	l.decide()
	kept := l.changes(func(n *node) bool { return n.keep && n.parent != nil || n.emit })
	layer := l.changes(func(n *node) bool { return n.emit })
	return ListedResult{Result{layer, len(layer) == len(kept)}, kept}, nil
}

// listed is a scan of upper paths.
type listed struct {
	walker
	below  Below
	dirs   map[string]*listedDir
	lowers map[lowerID]uint64 // numbers of lower files
}

// listedDir is a directory of the upper file system.
type listedDir struct {
	*node
	names map[string]bool
}

// lowerID identifies a file of the layers below; hard links have the same.
type lowerID struct {
	layer int
	path  string
}

func (l *listed) add(u *Upper) error {
	st := u.stat()
	if u.Path == "." {
		return l.root(u, &st)
	}
	if !listing.ValidPath(u.Path) {
		return fmt.Errorf("the path is not clean, or longer than %d bytes", listing.MaxPath)
	}
	parent, name := l.dirs[path.Dir(u.Path)], path.Base(u.Path)
	switch {
	case parent == nil:
		return fmt.Errorf("its directory is missing")
	case parent.names[name]:
		return fmt.Errorf("it is there twice")
	}
	parent.names[name] = true
	n := l.node(parent.node, u, &st)
	if n.Type == listing.TypeDir {
		n.opaque = parent.opaque || u.Opaque
		l.dirs[u.Path] = &listedDir{n, map[string]bool{}}
	}
	lower, found := l.below.View.Lookup(u.Path)
	if n.hasNoContent(found) {
		return nil
	}
	return l.compare(n, &st, lower, found)
}

// node makes a node.
func (l *listed) node(parent *node, u *Upper, st *unix.Stat_t) *node {
	n := l.walker.add(parent, u.Path, st)
	n.from = u
	if n.Type == listing.TypeFile {
		n.links = u.Links
	}
	switch n.Type {
	case listing.TypeSymlink:
		n.Link = u.Link
	case listing.TypeFile, listing.TypeDir:
		for name, value := range u.XAttrs {
			if tree.KeepXAttr(name) {
				if n.XAttrs == nil {
					n.XAttrs = map[string]string{}
				}
				n.XAttrs[name] = value
			}
		}
	}
	return n
}

func (l *listed) root(u *Upper, st *unix.Stat_t) error {
	if len(l.dirs) > 0 || u.Type != listing.TypeDir {
		return fmt.Errorf("the root is not the first directory")
	}
	root := l.node(nil, u, st)
	root.Mode = RootMode
	l.setRoot(root)
	l.dirs["."] = &listedDir{root, map[string]bool{}}
	return nil
}

func (l *listed) compare(n *node, st *unix.Stat_t, lower listing.Node, found bool) error {
	if !found {
		n.emit = true
		return nil
	}
	at := timespec(l.below.Time(lower))
	same, err := l.equal(n, st, lower, at)
	n.emit, n.keep = !same, n.mtime != at
	n.lower = inode{ino: l.number(lower)}
	return err
}

// number returns the number of a lower file.
func (l *listed) number(n listing.Node) uint64 {
	id := lowerID{n.Layer, n.TreePath}
	if _, ok := l.lowers[id]; !ok {
		l.lowers[id] = uint64(len(l.lowers) + 1)
	}
	return l.lowers[id]
}

// equal reports whether n is the same as the lower file at its path.
func (l *listed) equal(n *node, st *unix.Stat_t, lower listing.Node, at unix.Timespec) (bool, error) {
	below := Upper{Entry: lower.Entry}
	if below.Type == listing.TypeHardlink {
		below.Type = listing.TypeFile
	}
	lowerStat := below.stat()
	if !sameStat(n, st, &lowerStat) || !l.sameTime(n, at.Sec) {
		return false, nil
	}
	switch n.Type {
	case listing.TypeSymlink:
		return n.Link == lower.Link, nil
	case listing.TypeFile, listing.TypeDir:
		if !sameXAttrs(lower.XAttrs, n.XAttrs) {
			return false, nil
		}
	}
	if n.Type != listing.TypeFile || n.Size == 0 {
		return true, nil
	}
	a, err := n.from.Open()
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := l.below.Open(lower)
	if err != nil {
		return false, err
	}
	defer b.Close()
	return sameBytes(a, b)
}

// hidden adds whiteouts for the lower children that are missing in opaque directories.
func (l *listed) hidden() {
	for dir, d := range l.dirs {
		if !d.opaque {
			continue
		}
		for _, kid := range l.below.View.ReadDir(dir) {
			if d.names[path.Base(kid.Path)] {
				continue
			}
			n := l.walker.add(d.node, kid.Path, &unix.Stat_t{Mode: unix.S_IFCHR})
			n.emit, n.missing = true, true
		}
	}
}

// changes returns the selected nodes as changes with their exact times.
func (l *listed) changes(selected func(*node) bool) []tarball.Change {
	nodes := slices.DeleteFunc(slices.Clone(l.scan.nodes), func(n *node) bool { return !selected(n) })
	return changes(nodes, func(n *node, c *tarball.Change) {
		if n.from == nil {
			return
		}
		c.Time = func() time.Time { return n.from.Time }
		if c.Type == listing.TypeFile && c.Size > 0 {
			c.Open = n.from.Open
		}
	})
}

// stat returns the result of stat for u.
func (u *Upper) stat() unix.Stat_t {
	st := unix.Stat_t{Mode: u.Mode & 0o7777, Uid: uint32(u.UID), Gid: uint32(u.GID), Size: u.Size, Ino: u.Inode, Mtim: timespec(u.Time)}
	switch u.Type {
	case listing.TypeFile:
		st.Mode |= unix.S_IFREG
	case listing.TypeDir:
		st.Mode |= unix.S_IFDIR
	case listing.TypeSymlink:
		st.Mode |= unix.S_IFLNK
		st.Size = int64(len(u.Link))
	case listing.TypeChar:
		st.Mode |= unix.S_IFCHR
		st.Rdev = unix.Mkdev(u.Major, u.Minor)
	case listing.TypeBlock:
		st.Mode |= unix.S_IFBLK
		st.Rdev = unix.Mkdev(u.Major, u.Minor)
	case listing.TypeFifo:
		st.Mode |= unix.S_IFIFO
	case listing.TypeWhiteout:
		st.Mode = unix.S_IFCHR
	default:
		st.Mode |= unix.S_IFSOCK
	}
	return st
}

func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}
