package diff

import (
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/index"
)

// settle makes the upper directory what the layer says, from the leaves to the
// root: what is equal below goes, hidden children become whiteouts, and times
// become those of the tar. Directories come last, as all this changes them.
func (s *scan) settle() error {
	for i := len(s.nodes) - 1; i >= 0; i-- {
		n := s.nodes[i]
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
		n.parent.retime = true
		return s.makeWhiteout(n.Path)
	case n.stub:
		n.parent.retime = true
		return s.removeStub(n)
	case !n.emit && n.parent != nil:
		n.parent.retime = true
		return remove(fd, n.Path, n.Type == index.TypeDir)
	case n.Type == index.TypeWhiteout:
		return nil
	}
	for _, attr := range n.overlay {
		if err := s.upper.child(n.Path).removeXAttr(attr); err != nil {
			return err
		}
	}
	n.overlay = nil
	if !n.retime {
		return nil
	}
	return setTime(fd, n.Path, n.MTime)
}

// makeWhiteout also takes the place of a socket.
func (s *scan) makeWhiteout(path string) error {
	err := unix.Mknodat(s.upper.fd, path, unix.S_IFCHR, 0)
	if err != unix.EEXIST {
		return err
	}
	if err := remove(s.upper.fd, path, false); err != nil {
		return err
	}
	return unix.Mknodat(s.upper.fd, path, unix.S_IFCHR, 0)
}

// removeStub removes a stub, unless a whiteout took its place: that was added
// after it, so it was settled before.
func (s *scan) removeStub(n *node) error {
	var st unix.Stat_t
	if err := unix.Fstatat(s.upper.fd, n.Path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if isWhiteout(&st) {
		return nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return remove(s.upper.fd, n.Path, false)
	}
	fd, err := unix.Openat(s.upper.fd, path.Dir(n.Path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return os.RemoveAll(descriptor(fd) + path.Base(n.Path))
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
	// A hard link to it came first, or the overlay keeps it to itself.
	if err := unix.Lremovexattr(name, attr); err != unix.ENODATA {
		return err
	}
	return nil
}

func setTime(fd int, path string, sec int64) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec}}
	return unix.UtimesNanoAt(fd, path, times, unix.AT_SYMLINK_NOFOLLOW)
}
