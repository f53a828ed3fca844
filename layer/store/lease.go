package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// lease marks a process as alive. It is a flocked directory below tmp/, which also
// holds the temporary files of the process.
type lease struct {
	name  string
	start int64 // time of taking it, by fileClock
	dir   *os.File
	count atomic.Int64
}

func takeLease(tmp string) (*lease, error) {
	for {
		l, err := tryLease(tmp)
		if l != nil || err != nil {
			return l, err
		}
	}
}

// tryLease returns nil if another process removed the new directory before it was
// locked.
func tryLease(tmp string) (*lease, error) {
	start, err := fileClock()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%016x-%s", start, randomName(6))
	path := tmp + "/" + name
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := flock(dir, unix.LOCK_EX); err != nil {
		dir.Close()
		return nil, err
	}
	if !sameFile(dir, path) {
		return nil, dir.Close()
	}
	return &lease{name: name, start: start, dir: dir}, nil
}

// fileClock returns the time of the clock that the kernel uses for files, in
// nanoseconds. The precise clock is ahead of it by up to a tick.
func fileClock() (int64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
		return 0, fmt.Errorf("read the clock: %w", err)
	}
	return now.Nano(), nil
}

// leaseStart parses the time in the name of a lease.
func leaseStart(name string) (int64, bool) {
	text, _, _ := strings.Cut(name, "-")
	start, err := strconv.ParseInt(text, 16, 64)
	return start, err == nil
}

// sameFile reports whether path still names the open file f.
func sameFile(f *os.File, path string) bool {
	var a, b unix.Stat_t
	if unix.Fstat(int(f.Fd()), &a) != nil || unix.Lstat(path, &b) != nil {
		return false
	}
	return a.Dev == b.Dev && a.Ino == b.Ino
}

func randomName(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// next returns an unused path for a temporary file.
func (l *lease) next(kind string) string {
	return l.dir.Name() + "/" + kind + "-" + strconv.FormatInt(l.count.Add(1), 10)
}

// close removes the temporary files and then releases the lease.
func (l *lease) close() error {
	err := removeTree(l.dir.Name(), nil).err
	return errors.Join(err, l.dir.Close())
}

// TempDir makes a temporary directory, named after pattern as by os.MkdirTemp. Close
// removes it, or a later Open if this process is killed.
func (s *Store) TempDir(pattern string) (string, error) {
	dir, err := os.MkdirTemp(s.lease.dir.Name(), pattern)
	if err != nil {
		return "", s.explain("make a temporary directory", err)
	}
	return dir, nil
}

// tryFree opens and locks a file, or returns nil if it is locked.
func tryFree(path string) *os.File {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	if flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil || !sameFile(f, path) {
		f.Close()
		return nil
	}
	return f
}
