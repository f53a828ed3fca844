// Package appear makes files that appear whole, or not at all: not when writing
// fails, and not when the process is killed either.
package appear

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// File makes or replaces the file at path with what write writes. Until then it has no
// name, where the file system can do that; elsewhere, a process that is killed leaves a
// file beside it whose name begins with a dot. Errors name path.
func File(path string, mode fs.FileMode, write func(*os.File) error) error {
	f, err := unnamed(path)
	if err != nil {
		return named(path, mode, write)
	}
	defer f.Close()
	if err := fill(f, mode, write); err != nil {
		return err
	}
	if err := link(f, path); err != nil {
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

func fill(f *os.File, mode fs.FileMode, write func(*os.File) error) error {
	if err := write(f); err != nil {
		return err
	}
	return f.Chmod(mode)
}

// unnamed opens a file without a name in the folder of path.
func unnamed(path string) (*os.File, error) {
	fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	if _, err := os.Stat(proc(f)); err != nil { // no /proc: it would stay without a name
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func proc(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// link gives the file its name. Only where that is taken does it have another one for
// a moment.
func link(f *os.File, path string) error {
	err := unix.Linkat(unix.AT_FDCWD, proc(f), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != unix.EEXIST {
		return err
	}
	temp := filepath.Join(filepath.Dir(path), "."+rand.Text())
	if err := unix.Linkat(unix.AT_FDCWD, proc(f), unix.AT_FDCWD, temp, unix.AT_SYMLINK_FOLLOW); err != nil {
		return err
	}
	if err := unix.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// named is File by way of a file with another name.
func named(path string, mode fs.FileMode, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return about(path, "", err)
	}
	temp := f.Name()
	err = fill(f, mode, write)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return about(path, temp, err)
	}
	return nil
}

// about puts path in place of the name of a temporary file that nobody knows.
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
