// Package tree merges and copies directory trees in overlay form.
//
// Such a tree is a lower directory for an overlay mount with the option
// userxattr. In it a character device 0:0 is a whiteout, which hides the path in
// the trees below, and the attribute user.overlay.opaque marks a directory that
// hides the contents of the same directory below. Package tarball unpacks layers
// into such trees, and package diff finds the changes in one.
//
// The trees may hold files of untrusted images. Directories are opened one by one
// and no symlink in a tree is followed.
package tree

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const overlayXAttrs = "user.overlay."

// OpaqueXAttr is the extended attribute that marks an opaque directory: its value
// is OpaqueValue.
const (
	OpaqueXAttr = overlayXAttrs + "opaque"
	OpaqueValue = "y"
)

// KeepXAttr reports whether an extended attribute is part of a layer. Security
// labels and the marks of an overlay belong to the machine.
func KeepXAttr(name string) bool {
	if strings.HasPrefix(name, "security.") {
		return name == "security.capability"
	}
	return !strings.HasPrefix(name, "trusted.") && !strings.HasPrefix(name, overlayXAttrs)
}

func openRoot(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}

func readNames(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	return f.Readdirnames(-1)
}

// removeAll removes a name and everything below it, if it exists.
func removeAll(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err != unix.EISDIR {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := readNames(fd)
	if err != nil {
		return err
	}
	for _, child := range names {
		if err := removeAll(fd, child); err != nil {
			return err
		}
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}
