package source

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func haveListxattrat(root int) bool {
	_, err := listxattrat(root, ".\x00"[:1], nil)
	return err != unix.ENOSYS && err != unix.EPERM
}

// listxattrat lists the attributes of a name, which a NUL byte follows, in one
// system call and without opening it (Linux 6.13 and later).
func listxattrat(dir int, name string, buf []byte) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.StringData(name))),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// xattrs returns the attributes of a regular file or directory that a build
// keeps. What can't be read has none: to say so is up to who reads the file.
func (d *Dir) xattrs(dir int, name string) map[string]string {
	if d.xattr {
		var buf [256]byte
		n, err := listxattrat(dir, name, buf[:])
		if err != unix.ERANGE && (err != nil || !anyKept(buf[:n])) {
			return nil
		}
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	return readXattrs(fd)
}

func readXattrs(fd int) map[string]string {
	buf := make([]byte, 64<<10) // the kernel's limit for lists and values
	n, err := unix.Flistxattr(fd, buf)
	if err != nil || !anyKept(buf[:n]) {
		return nil
	}
	attrs := map[string]string{}
	for key := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if !kept(key) {
			continue
		}
		if n, err := unix.Fgetxattr(fd, key, buf); err == nil {
			attrs[key] = string(buf[:n])
		}
	}
	return attrs
}

// kept says which attributes travel into an image. The marks of an overlay
// mount, whose upper directory may be a context, would change their meaning.
func kept(key string) bool {
	return key == "security.capability" ||
		strings.HasPrefix(key, "user.") && !strings.HasPrefix(key, "user.overlay.")
}

func anyKept(list []byte) bool {
	for key := range strings.SplitSeq(unsafe.String(unsafe.SliceData(list), len(list)), "\x00") {
		if kept(key) {
			return true
		}
	}
	return false
}
