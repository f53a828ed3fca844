package tree

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

// Lay copies a tree in overlay form over the directory dir. Afterwards dir holds
// the files that an overlay mount of the two would show. Files are cloned where the
// file system supports that, and hard links within the tree are kept. Neither
// directory may change during the call.
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

// laying is the state of one call of Lay.
type laying struct {
	to, from int
	first    map[fileID]string // the path at which each inode was copied first
	opaque   []byte
}

type fileID struct{ dev, ino uint64 }

// dir copies the directory from over the directory to, which is at path.
func (l *laying) dir(to, from int, path string) error {
	names, err := readNames(from)
	if err != nil {
		return &os.PathError{Op: "read", Path: path, Err: err}
	}
	for _, name := range names {
		if err := l.entry(to, from, name, listing.Join(path, name)); err != nil {
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
		err = removeAll(to, name)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return l.subdir(to, from, name, path)
	default:
		if err = removeAll(to, name); err == nil {
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
	n, err := unix.Fgetxattr(src, OpaqueXAttr, l.opaque)
	hides := err == nil && bytes.Equal(l.opaque[:n], []byte(OpaqueValue))
	dst, err := unix.Openat(to, name, how, 0)
	if err == nil && hides {
		unix.Close(dst)
		err = unix.ENOTDIR
	}
	if err == unix.ENOTDIR || err == unix.ELOOP {
		if err = removeAll(to, name); err == nil {
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

// file copies an entry that is not a directory to an unused name.
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
		return nil // the process may not make device nodes: only the listing has it
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
	return setTimes(to, name, st)
}
