package step

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Own gives the streams that were made for a command to its user: those whose bit is set
// in own. A user that is not mapped into the user namespace gets none.
func (a Account) Own(files [3]int, own int64) error {
	for n, fd := range files {
		if own&(1<<n) == 0 {
			continue
		}
		if err := unix.Fchown(fd, a.UID, -1); err != nil && err != unix.EINVAL {
			return err
		}
	}
	return nil
}

// MayOpen reports whether the account may open a file for reading or writing, as
// indicated by the permission bit 4 or 2. Root may open all.
func (a Account) MayOpen(st *unix.Stat_t, bit uint32) bool {
	switch {
	case a.UID == 0:
		return true
	case int(st.Uid) == a.UID:
		bit <<= 6
	case slices.Contains(a.Groups, st.Gid):
		bit <<= 3
	}
	return st.Mode&bit != 0
}

// IsSessionTerminal reports whether a file is the controlling terminal of this process,
// which the processes of its session can open as /dev/tty.
func IsSessionTerminal(fd int) bool {
	_, err := unix.IoctlGetInt(fd, unix.TIOCGSID)
	return err == nil
}

// FeedPipe makes a named pipe in an open directory for a command that cannot open its
// standard input by name. It copies from the input only while the command has the pipe
// open, so that nothing is read that the command does not ask for. The returned function
// ends that.
func FeedPipe(dir int, name string, input, uid int) (stop func(), err error) {
	if err := unix.Mkfifoat(dir, name, 0o600); err != nil {
		return nil, err
	}
	if err := unix.Fchownat(dir, name, uid, -1, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	// The copies stay open as long as the goroutine needs them.
	parent, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	in, err := unix.FcntlInt(uintptr(input), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		unix.Close(parent)
		return nil, err
	}
	var stopped atomic.Bool
	go func() {
		defer unix.Close(parent)
		from := os.NewFile(uintptr(in), name)
		defer from.Close()
		feed(parent, name, from, &stopped)
	}()
	return func() {
		stopped.Store(true)
		// This ends the wait of feed for a reader.
		if fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
			unix.Close(fd)
		}
	}, nil
}

// feed serves the readers of a named pipe in turn. At the end of the input it replaces
// the pipe by a link to /dev/null, where later readers find the end too.
func feed(dir int, name string, from io.Reader, stopped *atomic.Bool) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		to := os.NewFile(uintptr(fd), name)
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || stopped.Load() {
			to.Close() // the command may have put another file there
			return
		}
		_, err = io.Copy(to, from)
		if err == nil {
			end := name + ".end"
			if unix.Symlinkat("null", dir, end) == nil {
				unix.Renameat(dir, end, dir, name)
			}
		}
		to.Close()
		if !errors.Is(err, unix.EPIPE) {
			return
		}
	}
}
