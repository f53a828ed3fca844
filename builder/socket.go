package builder

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// longestSocket is what the kernel takes as the path of a socket, with its zero byte.
const longestSocket = len(unix.RawSockaddrUnix{}.Path)

const socketPrefix = "cairn-ssh-"

// socketFolder makes a folder for a socket: in the store, which is swept, or where
// paths are shorter.
func (j *job) socketFolder() (dir string, remove func() error, err error) {
	dir, err = j.Store.TempDir("ssh-")
	if err != nil {
		return "", nil, err
	}
	if len(dir+"/agent") < longestSocket {
		return dir, func() error { return os.RemoveAll(dir) }, nil
	}
	if err := os.Remove(dir); err != nil {
		return "", nil, err
	}
	sweepSockets()
	for range 10 {
		if dir, err = os.MkdirTemp("", socketPrefix); err != nil {
			return "", nil, err
		}
		var held *os.File
		if held, err = lockFolder(dir); err == nil {
			return dir, func() error { return errors.Join(os.RemoveAll(dir), held.Close()) }, nil
		}
		_ = os.RemoveAll(dir) // another process swept it before it was locked
	}
	return "", nil, err
}

// sweepSockets removes the folders of processes that were killed: nobody holds them.
func sweepSockets() {
	list, _ := filepath.Glob(filepath.Join(os.TempDir(), socketPrefix+"*"))
	for _, dir := range list {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		if held, err := lockFolder(dir); err == nil {
			_ = os.RemoveAll(dir) // another user's stays
			held.Close()
		}
	}
}

// lockFolder locks a folder that nobody else has locked, until it is closed.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
