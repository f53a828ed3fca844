// Package mount makes mounts that are not attached to a path yet, which fsmount(2),
// open_tree(2) and mount_setattr(2) allow, and attaches them.
package mount

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Attributes of mounts. Only mounts of single device files lack NoDev: there is no
// device cgroup, so this is the way to keep a step from opening a device node that it
// has made.
const (
	ReadOnly = unix.MOUNT_ATTR_RDONLY
	NoSuid   = unix.MOUNT_ATTR_NOSUID
	NoDev    = unix.MOUNT_ATTR_NODEV
	NoExec   = unix.MOUNT_ATTR_NOEXEC
)

// EmptyPaths are the flags of move_mount(2) for two descriptors without paths.
const EmptyPaths = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH

// Option is a parameter of a file system. Without a value it is a flag.
type Option struct{ Key, Value string }

// New makes an unattached mount of a new file system of some type.
func New(fstype string, attributes int, options ...Option) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w", fstype, err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		if o.Value == "" {
			err = unix.FsconfigSetFlag(fs, o.Key)
		} else {
			err = unix.FsconfigSetString(fs, o.Key, o.Value)
		}
		if err != nil {
			return -1, fmt.Errorf("mount %s: option %s=%s: %w%s", fstype, o.Key, o.Value, err, kernelMessage(fs))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("mount %s: %w%s", fstype, err, kernelMessage(fs))
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w%s", fstype, err, kernelMessage(fs))
	}
	return mount, nil
}

// kernelMessage reads the kernel's message about an error of a file system context.
func kernelMessage(fs int) string {
	line := make([]byte, 512)
	// A message begins with a letter for its severity and a space.
	if n, err := unix.Read(fs, line); err == nil && n > 2 {
		return " (" + string(line[2:n]) + ")"
	}
	return ""
}

// Attach attaches an unattached mount at an open target and closes the mount's
// descriptor.
func Attach(mount, target int) error {
	defer unix.Close(mount)
	return unix.MoveMount(mount, "", target, "", EmptyPaths)
}

// AttachAt attaches an unattached mount at a path relative to an open directory.
func AttachAt(mount, dir int, path string) error {
	return unix.MoveMount(mount, "", dir, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// Clone makes an unattached copy of the mount at a path.
func Clone(dir int, path string, flags uint) (int, error) {
	return unix.OpenTree(dir, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
}

// SetAttributes adds attributes to a mount and, with AT_RECURSIVE, to the mounts below.
func SetAttributes(mount int, attributes uint64, flags uint) error {
	return unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: attributes})
}

// Restrict adds attributes to a mount and the mounts below, and returns it. If that
// fails, it closes the mount.
func Restrict(mount int, attributes uint64) (int, error) {
	if err := SetAttributes(mount, attributes, unix.AT_RECURSIVE); err != nil {
		unix.Close(mount)
		return -1, err
	}
	return mount, nil
}
