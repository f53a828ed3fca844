package diff

import (
	"os"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tree"
)

// own sets the owners of all nodes to those recorded below. All names of a file get
// the owner of the first recorded one.
func (s *scan) own() {
	if s.o.Owner == nil {
		return
	}
	linked := map[inode]*node{}
	for _, n := range s.nodes {
		if n.Type == listing.TypeWhiteout || n.Type == 0 {
			continue
		}
		uid, gid, ok := s.o.Owner(n.Path, n.Type)
		if !ok {
			continue
		}
		n.UID, n.GID = uid, gid
		if n.links > 1 && linked[n.inode] == nil {
			linked[n.inode] = n
		}
	}
	if len(linked) == 0 {
		return
	}
	for _, n := range s.nodes {
		if first := linked[n.inode]; n.links > 1 && first != nil {
			n.UID, n.GID = first.UID, first.GID
		}
	}
}

// decide keeps hard links together and ancestors with their contents, and records
// the directories whose mtimes settle will change.
func (s *scan) decide() {
	s.keepLinks()
	for _, n := range slices.Backward(s.nodes) {
		p := n.parent
		if p == nil {
			continue
		}
		n.keep = n.keep || n.emit
		p.keep = p.keep || n.keep
		// The root is in the layer only if its own attributes have changed.
		if n.emit && p.parent != nil {
			p.emit = true
		}
		if !n.keep || n.missing {
			p.retime = true
		}
	}
}

// keepLinks keeps all names of a file if one of them is part of the layer, or if
// they are equal to separate files below: the target of a hard link must be in the
// same layer.
func (s *scan) keepLinks() {
	groups := map[inode][]*node{}
	for _, n := range s.nodes {
		if n.links > 1 && !n.socket {
			groups[n.inode] = append(groups[n.inode], n)
		}
	}
	for _, group := range groups {
		changed := slices.ContainsFunc(group, func(n *node) bool { return n.emit || n.lower != group[0].lower })
		touched := slices.ContainsFunc(group, func(n *node) bool { return n.keep })
		for _, n := range group {
			n.emit, n.keep = changed, touched
		}
	}
}

// settle changes the upper directory to match the layer: it removes files that are
// equal to those below and makes whiteouts for hidden children. Directories come last,
// deepest first, because the rest changes their times, which are restored.
func (s *scan) settle() error {
	var tasks errgroup.Group
	tasks.SetLimit(runtime.GOMAXPROCS(0))
	for part := range slices.Chunk(s.nodes, manyEntries) {
		tasks.Go(func() error { return s.settleFiles(part) })
	}
	if err := tasks.Wait(); err != nil {
		return err
	}
	for _, n := range slices.Backward(s.nodes) {
		if n.Type == listing.TypeDir {
			if err := s.settleNode(n); err != nil {
				return &os.PathError{Op: "settle", Path: n.Path, Err: err}
			}
		}
	}
	return nil
}

func (s *scan) settleFiles(nodes []*node) error {
	for _, n := range nodes {
		if n.Type == listing.TypeDir {
			continue
		}
		if err := s.settleNode(n); err != nil {
			return &os.PathError{Op: "settle", Path: n.Path, Err: err}
		}
	}
	return nil
}

func (s *scan) settleNode(n *node) error {
	fd := s.upper.fd
	switch {
	case n.missing:
		return s.makeWhiteout(n.Path)
	case !n.keep:
		return remove(fd, n.Path, n.Type == listing.TypeDir)
	}
	for _, attr := range n.overlay {
		if err := s.upper.child(n.Path).removeXAttr(attr); err != nil {
			return err
		}
	}
	if !n.retime {
		return nil
	}
	return setTime(fd, n.Path, n.mtime)
}

// makeWhiteout makes a whiteout, also in place of a socket.
func (s *scan) makeWhiteout(path string) error {
	err := tree.MakeWhiteout(s.upper.fd, path)
	if err != unix.EEXIST {
		return err
	}
	if err := remove(s.upper.fd, path, false); err != nil {
		return err
	}
	return tree.MakeWhiteout(s.upper.fd, path)
}

func remove(fd int, path string, isDir bool) error {
	flags := 0
	if isDir {
		flags = unix.AT_REMOVEDIR
	}
	return unix.Unlinkat(fd, path, flags)
}

func (p place) removeXAttr(attr string) error {
	name, done, err := p.absolute()
	if err != nil {
		return err
	}
	defer done()
	// Another link to the file may have come first.
	if err := unix.Lremovexattr(name, attr); err != unix.ENODATA {
		return err
	}
	return nil
}

func setTime(fd int, path string, mtime unix.Timespec) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
	return unix.UtimesNanoAt(fd, path, times, unix.AT_SYMLINK_NOFOLLOW)
}
