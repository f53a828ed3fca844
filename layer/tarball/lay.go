package tarball

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/index"
)

// Lay lays a tree in overlay form over the directory dir, so that dir becomes what an
// overlay of the two would show. Files are copied, by reference where the file system
// can do that; hard links within the tree stay. Nobody else may be changing either,
// and no symlink in them is followed.
func Lay(dir, tree string) error {
	l := &laying{first: map[fileID]string{}, opaque: make([]byte, 8)}
	var err error
	if l.to, err = openRoot(dir); err != nil {
		return err
	}
	defer unix.Close(l.to)
	if l.from, err = openRoot(tree); err != nil {
		return err
	}
	defer unix.Close(l.from)
	if err := l.dir(l.to, l.from, "."); err != nil {
		return fmt.Errorf("lay %s over %s: %w", tree, dir, err)
	}
	return nil
}

func openRoot(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}

// laying is one tree on its way.
type laying struct {
	to, from int
	first    map[fileID]string // of hard links: the name that was copied
	opaque   []byte
}

type fileID struct{ dev, ino uint64 }

// dir lays the directory from over to, which is at path.
func (l *laying) dir(to, from int, path string) error {
	names, err := namesIn(from)
	if err != nil {
		return &os.PathError{Op: "read", Path: path, Err: err}
	}
	for _, name := range names {
		if err := l.entry(to, from, name, join(path, name)); err != nil {
			return err
		}
	}
	if err := CopyAttributes(to, from); err != nil {
		return &os.PathError{Op: "copy the attributes of", Path: path, Err: err}
	}
	return nil
}

func (l *laying) entry(to, from int, name, path string) (err error) {
	var st unix.Stat_t
	if err = unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case IsWhiteout(&st):
		err = removeIn(to, name)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return l.subdir(to, from, name, path)
	default:
		if err = removeIn(to, name); err == nil {
			err = l.file(to, from, name, path, &st)
		}
	}
	if err != nil {
		return &os.PathError{Op: "copy", Path: path, Err: err}
	}
	return nil
}

func (l *laying) subdir(to, from int, name, path string) error {
	const how = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	src, err := unix.Openat(from, name, how, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(src)
	n, err := unix.Fgetxattr(src, opaqueXAttr, l.opaque)
	hides := err == nil && bytes.Equal(l.opaque[:n], []byte("y"))
	dst, err := unix.Openat(to, name, how, 0)
	if err == nil && hides {
		unix.Close(dst)
		err = unix.ENOTDIR
	}
	if err == unix.ENOTDIR || err == unix.ELOOP {
		if err = removeIn(to, name); err == nil {
			err = unix.ENOENT
		}
	}
	if err == unix.ENOENT {
		if err = unix.Mkdirat(to, name, 0o700); err == nil {
			dst, err = unix.Openat(to, name, how, 0)
		}
	}
	if err != nil {
		return &os.PathError{Op: "make", Path: path, Err: err}
	}
	defer unix.Close(dst)
	return l.dir(dst, src, path)
}

// file copies what is no directory to a name that is free.
func (l *laying) file(to, from int, name, path string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		id := fileID{st.Dev, st.Ino}
		if first, ok := l.first[id]; ok && st.Nlink > 1 {
			return unix.Linkat(l.to, first, to, name, 0)
		}
		l.first[id] = path
		return copyIn(to, from, name)
	case unix.S_IFLNK:
		return copyLink(to, from, name, st)
	}
	err := unix.Mknodat(to, name, st.Mode&^0o7777|0o600, int(st.Rdev))
	if err == unix.EPERM {
		return nil // a device node that cannot be made here is in the index alone
	}
	if err != nil {
		return err
	}
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Fchmodat(to, name, st.Mode&0o7777, 0); err != nil {
		return err
	}
	return timed(to, name, st)
}

func timed(dir int, name string, st *unix.Stat_t) error {
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func copyLink(to, from int, name string, st *unix.Stat_t) error {
	target := make([]byte, index.MaxPath+1)
	n, err := unix.Readlinkat(from, name, target)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(target[:n]), to, name); err != nil {
		return err
	}
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return timed(to, name, st)
}

func copyIn(to, from int, name string) error {
	in, err := OpenFile(from, name)
	if err != nil {
		return err
	}
	defer in.Close()
	return CopyFile(to, name, in)
}

// OpenFile opens a regular file for CopyFile, following no symlink at its end.
func OpenFile(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// CopyFile copies a regular file with all that belongs to it to a new name in an open
// directory, by reference where the file system can do that.
func CopyFile(dir int, name string, in *os.File) error {
	dst, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(dst), name)
	defer out.Close()
	src := int(in.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if st.Size > 0 && unix.IoctlFileClone(dst, src) != nil {
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
	return dress(dst, src, &st)
}

// CopyAttributes gives an open directory what belongs to another.
func CopyAttributes(to, from int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := undress(to); err != nil {
		return err
	}
	return dress(to, from, &st)
}

// undress removes extended attributes.
func undress(fd int) error {
	names, err := xattrNames(fd)
	for _, name := range names {
		if err == nil && keepXAttr(name) {
			err = unix.Fremovexattr(fd, name)
		}
	}
	return err
}

// dress gives an open file or directory another's owner, mode, attributes and times.
func dress(to, from int, st *unix.Stat_t) error {
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	if err := dressXAttrs(to, from); err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

func dressXAttrs(to, from int) error {
	names, err := xattrNames(from)
	if err != nil || len(names) == 0 {
		return err
	}
	value := make([]byte, 64<<10)
	for _, name := range names {
		if !keepXAttr(name) {
			continue
		}
		n, err := unix.Fgetxattr(from, name, value)
		if err == nil {
			err = unix.Fsetxattr(to, name, value[:n], 0)
		}
		if err != nil && err != unix.ENOTSUP && err != unix.ENODATA && err != unix.EPERM {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

func xattrNames(fd int) ([]string, error) {
	var small [512]byte
	list := small[:]
	n, err := unix.Flistxattr(fd, list)
	if err == unix.ERANGE {
		list = make([]byte, 64<<10)
		n, err = unix.Flistxattr(fd, list)
	}
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00"), nil
}

func namesIn(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	return f.Readdirnames(-1)
}

// removeIn removes a name with all below it; that there is none is no error.
func removeIn(dir int, name string) error {
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
	names, err := namesIn(fd)
	if err != nil {
		return err
	}
	for _, child := range names {
		if err := removeIn(fd, child); err != nil {
			return err
		}
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}
