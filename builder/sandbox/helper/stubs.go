package helper

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// stub is an empty directory or file to mount something on.
type stub struct {
	path string // relative, no link in it
	file bool
}

// usual are the mount points of every step.
func usual() []stub {
	return []stub{{"dev", false}, {"proc", false}, {"sys", false}, {"etc/hosts", true}, {"etc/resolv.conf", true}}
}

// base returns a layer with the usual mount points below folder, made when first
// asked for.
func (s *server) base(folder string) (string, error) {
	dir := folder + "/base"
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bases[dir] {
		return dir, nil
	}
	if err := MountPoints(dir); err != nil {
		return "", err
	}
	s.bases[dir] = true
	return dir, nil
}

// MountPoints makes the usual mount points in a folder.
func MountPoints(dir string) error {
	for _, stub := range usual() {
		if err := stub.make(dir); err != nil {
			return fmt.Errorf("make mount points: %w", err)
		}
	}
	return nil
}

// make makes the stub in a folder, with its parents.
func (s stub) make(folder string) error {
	full := folder + "/" + s.path
	if !s.file {
		return os.MkdirAll(full, 0o755)
	}
	if err := os.MkdirAll(path.Dir(full), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(full, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// cover makes a layer to lie on top of the others: the given stubs, below directories
// that look exactly as they do in the tree at root, so that the layer changes nothing
// else. Mount points that an image lacks come from such a layer, never from the upper
// directory: nothing has to be cleaned up after the step, however it ends.
func cover(folder string, root int, stubs []stub) (string, error) {
	dir, err := os.MkdirTemp(folder, "cover")
	if err != nil {
		return "", err
	}
	for _, s := range stubs {
		if err := s.make(dir); err != nil {
			return dir, fmt.Errorf("make mount point /%s: %w", s.path, err)
		}
	}
	for _, s := range stubs {
		// Children before parents: making one changes the other's times.
		for parent := path.Dir(s.path); ; parent = path.Dir(parent) {
			if err := imitate(dir+"/"+parent, root, parent); err != nil {
				return dir, fmt.Errorf("make mount point /%s: %w", s.path, err)
			}
			if parent == "." {
				break
			}
		}
	}
	return dir, nil
}

// imitate gives a folder the owner, mode, attributes and times of a directory in the
// tree. One that is not there is left as it is.
func imitate(folder string, root int, name string) error {
	fd, err := openClean(root, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if err := errors.Join(
		unix.Lchown(folder, int(st.Uid), int(st.Gid)),
		unix.Chmod(folder, st.Mode&0o7777),
		copyAttributes(folder, fd),
	); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, folder, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyAttributes copies extended attributes; those that the other file system cannot
// hold are left out.
func copyAttributes(folder string, from int) error {
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(from, names)
	if err != nil || n == 0 {
		return nil
	}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		size, err := unix.Fgetxattr(from, name, value)
		if err != nil {
			continue
		}
		err = unix.Lsetxattr(folder, name, value[:size], 0)
		if err != nil && err != unix.EOPNOTSUPP && err != unix.EPERM {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}
