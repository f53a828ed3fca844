package diff

import (
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// place is a path relative to an open directory. Below that directory only the last
// element may be a symlink, and it is never followed.
type place struct {
	fd   int // or AT_FDCWD: then path is absolute and ends in a slash, or is a child of such a path
	path string
}

func (p place) child(name string) place {
	if p.path == "" {
		return place{p.fd, name}
	}
	return place{p.fd, p.path + name}
}

// names reads the names in a directory.
func (p place) names(buf *[]byte) ([]string, error) {
	name := p.path
	if name == "" {
		name = "."
	}
	fd, err := unix.Openat(p.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readNames(fd, buf)
}

// readNames reads the names in an open directory that was not read before.
func readNames(fd int, buf *[]byte) ([]string, error) {
	if *buf == nil {
		*buf = make([]byte, 16<<10)
	}
	var names []string
	for {
		n, err := unix.ReadDirent(fd, *buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent((*buf)[:n], -1, names)
	}
}

func (p place) readlink(size int) (string, error) {
	for buf := make([]byte, size+1); ; buf = make([]byte, 2*len(buf)) {
		n, err := unix.Readlinkat(p.fd, p.path, buf)
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
	}
}

func (p place) open() (*os.File, error) {
	fd, err := unix.Openat(p.fd, p.path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), p.path), nil
}

// longest is the length of the longest relative path that fits the kernel's limit
// after the name of a descriptor. maxName is the length of the longest name.
const (
	longest = 4000
	maxName = 255
)

// absolute returns p as a path for system calls on extended attributes, which take
// no directory descriptor. done releases it.
func (p place) absolute() (name string, done func(), err error) {
	if p.fd < 0 {
		// Lower directories with longer paths are opened.
		return p.path, func() {}, nil
	}
	if len(p.path) <= longest {
		return descriptor(p.fd) + p.path, func() {}, nil
	}
	dir, base := path.Split(p.path)
	fd, err := unix.Openat(p.fd, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	return descriptor(fd) + base, func() { unix.Close(fd) }, nil
}

func descriptor(fd int) string {
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/"
}

const (
	overlayPrefix = "user.overlay."
	opaqueName    = overlayPrefix + "opaque"
)

// xattrs reads the attributes that are part of a layer, and the names of the
// overlay's.
func (p place) xattrs() (kept map[string]string, overlay []string, err error) {
	name, done, err := p.absolute()
	if err != nil {
		return nil, nil, err
	}
	defer done()
	list, err := readXAttr(func(buf []byte) (int, error) { return unix.Llistxattr(name, buf) })
	if err == unix.ENOTSUP {
		return nil, nil, nil
	}
	for len(list) > 0 && err == nil {
		var attr, value string
		attr, list, _ = strings.Cut(list, "\x00")
		switch {
		case strings.HasPrefix(attr, overlayPrefix):
			overlay = append(overlay, attr)
		case keptXAttr(attr):
			if kept == nil {
				kept = map[string]string{}
			}
			value, err = readXAttr(func(buf []byte) (int, error) { return unix.Lgetxattr(name, attr, buf) })
			kept[attr] = value
		}
	}
	return kept, overlay, err
}

// keptXAttr reports whether an attribute is part of a layer. Labels (such as
// security.selinux) and trusted.* belong to the machine.
func keptXAttr(name string) bool {
	if strings.HasPrefix(name, "security.") {
		return name == "security.capability"
	}
	return !strings.HasPrefix(name, "trusted.")
}

func readXAttr(read func(buf []byte) (int, error)) (string, error) {
	var small [256]byte
	n, err := read(small[:])
	if err == nil {
		return string(small[:n]), nil
	}
	for buf := make([]byte, 4096); err == unix.ERANGE && len(buf) <= 1<<20; buf = make([]byte, 4*len(buf)) {
		if n, err = read(buf); err == nil {
			return string(buf[:n]), nil
		}
	}
	return "", err
}

// isOpaque reports whether a directory hides the contents of the one below.
func isOpaque(p place) bool {
	name, done, err := p.absolute()
	if err != nil {
		return false
	}
	defer done()
	var value [2]byte
	n, err := unix.Lgetxattr(name, opaqueName, value[:])
	return err == nil && n == 1 && value[0] == 'y'
}
