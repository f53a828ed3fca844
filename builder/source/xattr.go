package source

import (
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func haveListxattrat(root int) bool {
	_, err := listxattrat(root, ".\x00"[:1], nil)
	return err != unix.ENOSYS && err != unix.EPERM
}

// listxattrat lists the attributes of a file without opening it (Linux 6.13 and later). A
// NUL byte must follow name in memory.
func listxattrat(dir int, name string, buf []byte) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.StringData(name))),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// xattrs returns the extended attributes of a regular file or directory that a build
// keeps. It returns none if they cannot be read: reading the file returns the error.
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
		if !KeepXAttr(key) {
			continue
		}
		if n, err := unix.Fgetxattr(fd, key, buf); err == nil {
			attrs[key] = string(buf[:n])
		}
	}
	return attrs
}

// KeepXAttr reports whether an extended attribute of a file in a build context or archive
// is copied into an image: file capabilities and attributes that users set, but none that
// belongs to the machine that the file was on.
func KeepXAttr(key string) bool {
	if key == "security.capability" {
		return true
	}
	name, ok := strings.CutPrefix(key, "user.")
	return ok && !slices.ContainsFunc(ofMachine, func(s string) bool {
		return s == name || strings.HasSuffix(s, ".") && strings.HasPrefix(name, s)
	})
}

// ofMachine has the names after "user.", or their beginnings up to a dot, of attributes that
// programs set for themselves.
var ofMachine = []string{
	"xdg.", "creator", "mime_type", "charset", // browsers, curl and wget: the URL of a download
	"com.apple.", "org.netatalk.", "DOSATTRIB", "DosStream.", "SAMBA_PAI", // files of other systems
	"dublincore.", "baloo.", "com.dropbox.", // desktops
	"overlay.", "fuseoverlayfs.", "containers.", "rootlesscontainers", // trees of containers: they would have a meaning again
}

func anyKept(list []byte) bool {
	for key := range strings.SplitSeq(unsafe.String(unsafe.SliceData(list), len(list)), "\x00") {
		if KeepXAttr(key) {
			return true
		}
	}
	return false
}
