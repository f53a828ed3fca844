package tree

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

func setTimes(dir int, name string, st *unix.Stat_t) error {
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func copyLink(to, from int, name string, st *unix.Stat_t) error {
	target := make([]byte, listing.MaxPath+1)
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
	return setTimes(to, name, st)
}

// copier copies regular files. It tries to clone until a file system turns out not to
// support that.
type copier struct{ refused atomic.Bool }

func (c *copier) copyIn(to, from int, name string) error {
	src, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	return c.copy(to, name, src)
}

// copy copies an open file to an unused name in an open directory.
func (c *copier) copy(dir int, name string, src int) error {
	dst, err := unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	if err := c.contents(dst, src, st.Size); err != nil {
		return err
	}
	return setAttributes(dst, src, &st)
}

const smallFile = 32 << 10 // a file of fewer bytes is copied by one read and one write

// contents copies size bytes, or fewer if the file has become shorter.
func (c *copier) contents(dst, src int, size int64) error {
	if size == 0 || c.clone(dst, src) {
		return nil
	}
	for size > smallFile {
		n, err := unix.CopyFileRange(src, nil, dst, nil, int(min(size, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 { // the file systems do not support it
			break
		}
		size -= int64(n)
	}
	buf := buffers.Get().(*[smallFile]byte)
	defer buffers.Put(buf)
	for size > 0 {
		n, err := unix.Read(src, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		if err := writeAll(dst, buf[:n]); err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

func (c *copier) clone(dst, src int) bool {
	if c.refused.Load() {
		return false
	}
	err := unix.IoctlFileClone(dst, src)
	if err == unix.EOPNOTSUPP || err == unix.ENOTTY || err == unix.EXDEV {
		c.refused.Store(true)
	}
	return err == nil
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

var buffers = sync.Pool{New: func() any { return new([smallFile]byte) }}

// OpenFile opens a regular file for CopyFile. It fails if name is a symlink.
func OpenFile(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// CopyFile copies a regular file to an unused name in an open directory, with its
// owner, mode, extended attributes and times. The contents are cloned where the file
// system supports that.
func CopyFile(dir int, name string, in *os.File) error {
	return new(copier).copy(dir, name, int(in.Fd()))
}

// CopyAttributes sets the owner, mode, extended attributes and times of the open
// directory to to those of from.
func CopyAttributes(to, from int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := removeXAttrs(to); err != nil {
		return err
	}
	return setAttributes(to, from, &st)
}

// removeXAttrs removes the extended attributes that are part of a layer.
func removeXAttrs(fd int) error {
	names, err := xattrNames(fd)
	for _, name := range names {
		if err == nil && KeepXAttr(name) {
			err = unix.Fremovexattr(fd, name)
		}
	}
	return err
}

// setAttributes sets the owner, mode and times of an open file or directory to those
// in st, and copies the extended attributes of from.
func setAttributes(to, from int, st *unix.Stat_t) error {
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXAttrs(to, from); err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

func copyXAttrs(to, from int) error {
	names, err := xattrNames(from)
	if err != nil || len(names) == 0 {
		return err
	}
	value := make([]byte, 64<<10)
	for _, name := range names {
		if !KeepXAttr(name) {
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
