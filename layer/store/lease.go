package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// lease says that a process is alive: a flocked folder of its own below tmp/,
// which also holds its temporary files.
type lease struct {
	name  string
	start int64 // when it was taken, on the clock that stamps files
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

// tryLease returns nothing when a sweeper took the new folder for a dead
// process's before it was locked.
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

// fileClock reads the clock with which the kernel stamps files: the precise
// one runs ahead of it by up to a tick.
func fileClock() (int64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
		return 0, fmt.Errorf("read the clock: %w", err)
	}
	return now.Nano(), nil
}

// leaseStart reads the time out of a lease's name.
func leaseStart(name string) (int64, bool) {
	text, _, _ := strings.Cut(name, "-")
	start, err := strconv.ParseInt(text, 16, 64)
	return start, err == nil
}

// sameFile says whether path still names the open file f.
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

// next is a fresh path for a temporary file.
func (l *lease) next(kind string) string {
	return l.dir.Name() + "/" + kind + "-" + strconv.FormatInt(l.count.Add(1), 10)
}

// close removes the temporary files, then gives up the lease.
func (l *lease) close() error {
	err := removeTree(l.dir.Name(), nil).err
	return errors.Join(err, l.dir.Close())
}

// TempDir makes a folder for temporary files, named after pattern as
// os.MkdirTemp does. It is removed by Close, or by a later Open when this
// process is killed.
func (s *Store) TempDir(pattern string) (string, error) {
	dir, err := os.MkdirTemp(s.lease.dir.Name(), pattern)
	if err != nil {
		return "", s.explain("make a temporary folder", err)
	}
	return dir, nil
}

// sweep moves to the trash what dead processes and earlier boots left. What
// can not be moved is left for the next time.
func (s *Store) sweep() {
	alone := true
	for _, name := range s.otherLeases() {
		free := tryFree(s.path(tmpDir, name))
		if free == nil {
			alone = false
			continue
		}
		s.sweepLease(name)
		free.Close()
	}
	if alone {
		s.sweepBoots()
	}
	s.broom.start()
}

// sweepBoots takes away the trees of other boots. It is for when nobody else
// is there, who might be on another machine or on one without a boot ID.
func (s *Store) sweepBoots() {
	boots, _ := readNames(s.path(treesDir))
	for _, name := range boots {
		if name != filepath.Base(s.boot) {
			s.broom.take(s.path(treesDir, name))
		}
	}
}

// sweepLease takes away a dead process's unfiled trees, then its lease.
func (s *Store) sweepLease(name string) {
	containers, _ := os.ReadDir(s.boot)
	for _, e := range containers {
		dir := s.boot + "/" + e.Name()
		if strings.HasPrefix(e.Name(), name+".") && unfiled(dir) {
			s.broom.take(dir)
		}
	}
	s.broom.take(s.path(tmpDir, name))
}

func (s *Store) otherLeases() []string {
	var names []string
	entries, _ := os.ReadDir(s.path(tmpDir))
	for _, e := range entries {
		if e.IsDir() && e.Name() != s.lease.name {
			names = append(names, e.Name())
		}
	}
	return names
}

// oldestLease is when the oldest live lease was taken, and whether it is ours
// and the only one.
func (s *Store) oldestLease() (oldest int64, alone bool) {
	oldest, alone = s.lease.start, true
	for _, name := range s.otherLeases() {
		free := tryFree(s.path(tmpDir, name))
		if free != nil {
			free.Close()
			continue
		}
		alone = false
		if start, ok := leaseStart(name); ok {
			oldest = min(oldest, start)
		}
	}
	return oldest, alone
}

// tryFree opens and locks a file that nobody holds locked, or returns nil.
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
