// Package atomicfile writes files atomically: a file is complete or absent, even if
// writing fails or the process is killed. Files that cannot be replaced are overwritten.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// File writes the file at path with write and replaces an old one. The file has no
// name until it is complete, where the file system supports that; elsewhere a
// process that is killed leaves a temporary file, named .*, in the same directory.
// Errors name path.
//
// An old file that cannot be replaced is overwritten: a mount point, or a file in a
// directory that takes no new ones. It is emptied if that fails.
func File(path string, mode fs.FileMode, write func(*os.File) error) error {
	return replace(path, mode, write, unnamed)
}

// replace implements File. open opens the temporary file.
func replace(path string, mode fs.FileMode, write func(*os.File) error, open func(path string) (*os.File, error)) error {
	if isMount(path) {
		return overwrite(path, mode, write)
	}
	f, err := open(path)
	if err != nil {
		f, err = named(path)
	}
	if refused(err) && isRegular(path) {
		return overwrite(path, mode, write)
	}
	if err != nil {
		return about(path, "", err)
	}
	if err = fill(f, mode, write); err == nil {
		err = put(f, path, mode)
	}
	if f.Name() != path {
		_ = os.Remove(f.Name()) // fails after a rename
	}
	return errors.Join(about(path, f.Name(), err), f.Close())
}

// put gives the complete file its name, or copies it if that is refused.
func put(f *os.File, path string, mode fs.FileMode) error {
	err := link(f, path)
	if !refused(err) || !isRegular(path) {
		return err
	}
	return overwrite(path, mode, func(to *os.File) error {
		_, err := io.Copy(to, io.NewSectionReader(f, 0, math.MaxInt64))
		return err
	})
}

func fill(f *os.File, mode fs.FileMode, write func(*os.File) error) error {
	if err := write(f); err != nil {
		return err
	}
	return f.Chmod(mode)
}

// unnamed opens a file without a name in the directory of path.
func unnamed(path string) (*os.File, error) {
	fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	if _, err := os.Stat(proc(f)); err != nil { // without /proc it could not get a name
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func proc(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// named opens a file with a temporary name in the directory of path.
func named(path string) (*os.File, error) {
	return os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
}

// link gives the file its name. If the name is taken, a file without a name gets a
// temporary one first.
func link(f *os.File, path string) error {
	if f.Name() != path {
		return os.Rename(f.Name(), path)
	}
	err := unix.Linkat(unix.AT_FDCWD, proc(f), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err == nil {
		return nil
	}
	if err != unix.EEXIST {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	temp := filepath.Join(filepath.Dir(path), "."+rand.Text())
	if err := unix.Linkat(unix.AT_FDCWD, proc(f), unix.AT_FDCWD, temp, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	if err := os.Rename(temp, path); err != nil {
		_ = os.Remove(temp)
		return err
	}
	return nil
}

// about replaces the name of the temporary file in an error with path.
func about(path, temp string, err error) error {
	var at *fs.PathError
	var move *os.LinkError
	switch {
	case errors.As(err, &at) && (temp == "" || at.Path == temp):
		return &fs.PathError{Op: "write", Path: path, Err: at.Err}
	case errors.As(err, &move):
		return &fs.PathError{Op: "write", Path: path, Err: move.Err}
	}
	return err
}
