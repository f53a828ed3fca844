package store

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// disk is shared by all parts of a store: its directory, the lease of this process,
// and the queue of files to sync.
type disk struct {
	root  string
	boot  string // directory of the trees of this boot
	lease *lease
	sync  *syncer
	gcMu  sync.Mutex // held by the goroutine that has locked gc
	gc    *os.File
}

func (s *disk) path(elem ...string) string {
	return s.root + "/" + strings.Join(elem, "/")
}

// use marks path as used and returns its status, or false if it does not exist. An
// entry that was marked since this lease was taken is already safe from Prune. That
// includes one with a time in the future only while no Prune is running that began
// before the lease.
func (s *disk) use(path string) (unix.Stat_t, bool) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return st, false
	}
	now, err := fileClock()
	if used := st.Mtim.Nano(); err == nil && used >= s.lease.start && used <= now {
		return st, true
	}
	s.gcMu.Lock()
	defer s.gcMu.Unlock()
	if err := flock(s.gc, unix.LOCK_SH); err != nil {
		return st, false
	}
	defer flock(s.gc, unix.LOCK_UN)
	if err := unix.Lstat(path, &st); err != nil {
		return st, false
	}
	return st, s.mark(path, max(now, s.lease.start)) == nil
}

// mark sets the last use of path to then unless it is later. New entries need that
// if the clock was set back since the lease was taken.
func (s *disk) mark(path string, then int64) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mtim.Nano() >= then {
		return err
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(then)}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, unix.AT_SYMLINK_NOFOLLOW)
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			return err
		}
	}
}

func notExist(what string) error {
	return fmt.Errorf("%s is not in the store: %w", what, fs.ErrNotExist)
}

// lockFolder locks a directory of the store during a small write.
func (s *disk) lockFolder(name string) (unlock func(), err error) {
	f, err := os.Open(s.path(name))
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// drop removes the file with status was from path. A file that was put at path
// meanwhile stays.
func (s *disk) drop(path string, was unix.Stat_t) (bool, error) {
	aside := s.lease.next("damaged")
	if err := os.Rename(path, aside); err != nil {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(aside, &st); err != nil {
		return false, err
	}
	if st.Dev != was.Dev || st.Ino != was.Ino {
		return false, os.Rename(aside, path)
	}
	return true, removeTree(aside, nil).err
}
