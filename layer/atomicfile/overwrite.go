package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Output writes a file that a user has named. It is like [File], but writes to links,
// devices and pipes rather than replacing them. A link to an open descriptor, such as
// /dev/stdout or /dev/fd/3, stands for it: the file behind it is continued.
func Output(path string, write func(io.Writer) error) error {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().IsRegular() {
		return File(path, 0o644, func(f *os.File) error { return write(f) })
	}
	target, err := os.Stat(path)
	if out, outErr := os.Stdout.Stat(); err == nil && outErr == nil && os.SameFile(target, out) {
		return write(os.Stdout)
	}
	f, err := Create(path)
	if err != nil {
		return err
	}
	if _, ok := descriptor(path); ok {
		return errors.Join(write(f), f.Close())
	}
	return finish(f, write(f))
}

// Create creates or truncates a file that a user has named. A link to an open
// descriptor stands for it, as with [Output].
func Create(path string) (*os.File, error) {
	if fd, ok := descriptor(path); ok {
		return duplicate(fd, path)
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
}

// descriptor returns the descriptor of this process to which path is a link.
func descriptor(path string) (fd int, ok bool) {
	const maxLinks = 40 // as Linux
	for range maxLinks {
		if dir, name := filepath.Split(path); dir == "/proc/self/fd/" || dir == "/dev/fd/" {
			fd, err := strconv.Atoi(name)
			return fd, err == nil
		}
		to, err := os.Readlink(path)
		if err != nil {
			return 0, false
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return 0, false
}

// duplicate returns another file for an open descriptor, with the same position.
func duplicate(fd int, path string) (*os.File, error) {
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(other), path), nil
}

// Check returns an error if [File] and [Output] cannot write path for lack of a
// directory or of permissions.
func Check(path string) error {
	if to, err := os.Stat(path); err == nil && to.IsDir() {
		return &fs.PathError{Op: "write", Path: path, Err: unix.EISDIR}
	}
	fi, err := os.Lstat(path)
	if err == nil && !fi.Mode().IsRegular() {
		return nil
	}
	dir := unix.Access(filepath.Dir(path), unix.W_OK|unix.X_OK)
	if err == nil && (dir != nil || isMount(path)) {
		if file := unix.Access(path, unix.W_OK); file != nil {
			return &fs.PathError{Op: "write", Path: path, Err: file}
		}
		return nil
	}
	if dir != nil {
		return &fs.PathError{Op: "write in", Path: filepath.Dir(path), Err: dir}
	}
	return nil
}

// Remove removes the regular file at path, or empties it if it cannot be removed. Other
// files stay, and it is no error if there is none.
func Remove(path string) error {
	if !isRegular(path) {
		return nil
	}
	err := os.Remove(path)
	if refused(err) {
		return os.Truncate(path, 0)
	}
	return err
}

// overwrite writes the existing file at path in place.
func overwrite(path string, mode fs.FileMode, write func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if mode&0o077 == 0 { // a secret
		if err := f.Chmod(mode); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return finish(f, write(f))
}

// finish closes a file, and empties a regular one if writing it failed with err.
func finish(f *os.File, err error) error {
	if err != nil {
		_ = f.Truncate(0) // fails for devices and pipes
	}
	return errors.Join(err, f.Close())
}

// refused reports whether err forbids to create a file in a directory, or to replace
// one there.
func refused(err error) bool {
	return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

func isRegular(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.Mode().IsRegular()
}

// isMount reports whether a regular file is a mount point.
func isMount(path string) bool {
	var file, dir unix.Statx_t
	const mask = unix.STATX_TYPE
	if unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, mask, &file) != nil || file.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	if file.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return file.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	err := unix.Statx(unix.AT_FDCWD, filepath.Dir(path), 0, mask, &dir)
	return err == nil && (file.Dev_major != dir.Dev_major || file.Dev_minor != dir.Dev_minor)
}
