package helper

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Attributes of mounts. Only mounts of single device files lack noDev: without a
// device cgroup that is what keeps a step from opening a device node that it made.
const (
	readOnly = unix.MOUNT_ATTR_RDONLY
	noSuid   = unix.MOUNT_ATTR_NOSUID
	noDev    = unix.MOUNT_ATTR_NODEV
	noExec   = unix.MOUNT_ATTR_NOEXEC
)

const emptyPaths = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH

// option is one parameter of a file system; without a value it is a flag.
type option struct{ key, value string }

// newFS makes an unattached mount of a new file system.
func newFS(kind string, attributes int, options ...option) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w", kind, err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		if o.value == "" {
			err = unix.FsconfigSetFlag(fs, o.key)
		} else {
			err = unix.FsconfigSetString(fs, o.key, o.value)
		}
		if err != nil {
			return -1, fmt.Errorf("mount %s: option %s=%s: %w%s", kind, o.key, o.value, err, complaint(fs))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("mount %s: %w%s", kind, err, complaint(fs))
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w%s", kind, err, complaint(fs))
	}
	return mount, nil
}

// complaint reads what the file system has to say about an error.
func complaint(fs int) string {
	line := make([]byte, 512)
	// Lines begin with a letter for their kind and a space.
	if n, err := unix.Read(fs, line); err == nil && n > 2 {
		return " (" + string(line[2:n]) + ")"
	}
	return ""
}

// attach puts an unattached mount on top of target and closes its descriptor.
func attach(mount, target int) error {
	defer unix.Close(mount)
	return unix.MoveMount(mount, "", target, "", emptyPaths)
}

// cloneTree makes an unattached copy of the mount at path.
func cloneTree(dir int, path string, flags uint) (int, error) {
	return unix.OpenTree(dir, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
}

// setAttributes adds attributes to a mount and, with AT_RECURSIVE, all on it.
func setAttributes(mount int, attributes uint64, flags uint) error {
	return unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: attributes})
}
