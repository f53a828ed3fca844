package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/inroot"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/plaintree"
	"golang.org/x/sys/unix"
)

// newMountPointLayer makes a layer in a folder that adds mount points to the tree at
// root. Their parent directories have the same attributes as in the tree, so that the
// layer changes nothing else when it is mounted as the topmost lower layer. Since the
// mount points are not in the upper directory, they need not be removed after the step.
//
// If it fails, the returned layer is incomplete and still has to be removed.
func newMountPointLayer(folder string, root int, points []plaintree.MountPoint) (string, error) {
	dir, err := os.MkdirTemp(folder, "cover")
	if err != nil {
		return "", err
	}
	for _, m := range points {
		if err := m.Make(dir); err != nil {
			return dir, fmt.Errorf("make mount point /%s: %w", m.Path, err)
		}
	}
	for _, m := range points {
		// Children before parents: creating a child changes the times of its parent.
		for parent := path.Dir(m.Path); ; parent = path.Dir(parent) {
			if err := copyDirAttributes(dir+"/"+parent, root, parent); err != nil {
				return dir, fmt.Errorf("make mount point /%s: %w", m.Path, err)
			}
			if parent == "." {
				break
			}
		}
	}
	return dir, nil
}

// copyDirAttributes gives a folder the owner, mode, extended attributes and times of a
// directory in the tree. If the tree does not have the directory, the folder is left as
// it is.
func copyDirAttributes(folder string, root int, name string) error {
	fd, err := inroot.OpenClean(root, name, unix.O_RDONLY|unix.O_DIRECTORY)
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
		copyXattrs(folder, fd),
	); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, folder, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyXattrs copies extended attributes, except those that the file system of the folder
// does not support or this process may not set.
func copyXattrs(folder string, from int) error {
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
			return fmt.Errorf("set the attribute %s: %w", name, err)
		}
	}
	return nil
}
