package source

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxPath is the maximum length of a path in bytes. The kernel's limit of 4096 applies to
// each system call; deeper trees can exist, and are read in several steps.
const maxPath = 16 << 10

// clean returns a path in its relative, clean form. Its ".." elements stay below the root.
func clean(p string) string {
	if p = path.Clean("/" + p)[1:]; p != "" {
		return p
	}
	return "."
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// retry repeats f while a signal interrupts it.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// openat opens a path below the root without following symlinks.
func (d *Dir) openat(p string, flags int) (int, error) {
	dir := d.root
	for len(p) > unix.PathMax-2 {
		cut := strings.LastIndexByte(p[:unix.PathMax-2], '/')
		if cut < 0 {
			return -1, unix.ENAMETOOLONG
		}
		next, err := openBeneath(dir, p[:cut], unix.O_PATH|unix.O_DIRECTORY)
		closeUnless(d.root, dir)
		if err != nil {
			return -1, err
		}
		dir, p = next, p[cut+1:]
	}
	fd, err := openBeneath(dir, p, flags)
	closeUnless(d.root, dir)
	return fd, err
}

func closeUnless(keep, fd int) {
	if fd != keep {
		unix.Close(fd)
	}
}

func openBeneath(dir int, p string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := retry(func() (int, error) { return unix.Openat2(dir, p, &how) })
	switch err {
	case unix.ENOSYS, unix.EPERM, unix.EAGAIN:
		// An old kernel, a system call filter, or a concurrent rename.
		return openSteps(dir, p, flags)
	}
	return fd, err
}

// openSteps is openBeneath without openat2.
func openSteps(dir int, p string, flags int) (int, error) {
	parent := dir
	for {
		name, rest, more := strings.Cut(p, "/")
		f := flags
		if more {
			f = unix.O_PATH | unix.O_DIRECTORY
		}
		fd, err := retry(func() (int, error) {
			return unix.Openat(parent, name, f|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		closeUnless(dir, parent)
		if err != nil || !more {
			return fd, err
		}
		parent, p = fd, rest
	}
}

// item is one name in a directory.
type item struct {
	path string // ends in the name; a NUL byte follows in memory
	name string
	kind byte // DT_*
}

// list returns the sorted entries of the directory fd. The strings share one allocation,
// and each is followed by a NUL byte, so that they can be passed to system calls.
func list(fd int, dir string, buf []byte) ([]item, error) {
	prefix := ""
	if dir != "." {
		prefix = dir + "/"
	}
	arena, spans, err := readNames(fd, prefix, buf)
	if err != nil {
		return nil, err
	}
	items := make([]item, len(spans))
	all := unsafe.String(unsafe.SliceData(arena), len(arena))
	for i, s := range spans {
		p := all[s.from:s.to]
		items[i] = item{path: p, name: p[len(prefix):], kind: s.kind}
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return items, nil
}

type span struct {
	from, to int
	kind     byte
}

const direntName = int(unsafe.Offsetof(unix.Dirent{}.Name))

func readNames(fd int, prefix string, buf []byte) (arena []byte, spans []span, err error) {
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, buf) })
		if err != nil {
			return nil, nil, err
		}
		if n <= 0 {
			return arena, spans, nil
		}
		for rec := buf[:n]; len(rec) > direntName; {
			size := int(binary.NativeEndian.Uint16(rec[unsafe.Offsetof(unix.Dirent{}.Reclen):]))
			kind := rec[unsafe.Offsetof(unix.Dirent{}.Type)]
			name := rec[direntName:size]
			name = name[:bytes.IndexByte(name, 0)]
			rec = rec[size:]
			if string(name) == "." || string(name) == ".." {
				continue
			}
			from := len(arena)
			arena = append(append(append(arena, prefix...), name...), 0)
			spans = append(spans, span{from, len(arena) - 1, kind})
		}
	}
}

// lstat is fstatat without following links. A NUL byte must follow name in memory.
func lstat(dir int, name string, st *unix.Stat_t) error {
	for {
		_, _, e := unix.Syscall6(unix.SYS_NEWFSTATAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.StringData(name))),
			uintptr(unsafe.Pointer(st)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
		switch e {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return e
	}
}

// readlink returns the target of a symlink. The size is a hint.
func readlink(dir int, name string, size int64) (string, error) {
	buf := make([]byte, max(size, 63)+1)
	for {
		n, err := retry(func() (int, error) { return unix.Readlinkat(dir, name, buf) })
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
		buf = make([]byte, 2*len(buf)) // the target has changed
	}
}
