package chroot

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"golang.org/x/sys/unix"
)

// streamNames are the names of the standard streams in /dev.
var streamNames = [3]string{"stdin", "stdout", "stderr"}

// nameStreams makes the names of the standard streams in a step's /dev. Without
// /proc/self/fd, a command has no other way to open a stream.
func (s *supervisor) nameStreams(dir int) error {
	for n, stream := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if err := s.nameStream(dir, n, stream); err != nil {
			return fmt.Errorf("%s: %w", streamNames[n], err)
		}
	}
	return directory(0o755, nameDescriptors)(dir, "fd")
}

// nameDescriptors links the numbers of the standard streams in an open directory to their
// names.
func nameDescriptors(dir int) error {
	for n, name := range streamNames {
		if err := unix.Symlinkat("/dev/"+name, dir, strconv.Itoa(n)); err != nil {
			return err
		}
	}
	return nil
}

// nameInProc makes /proc/self/fd for a user other than root. The directory cannot be
// read: programs that look there for the files to close would trust that it is complete.
// Root could read it, and has none.
func (s *supervisor) nameInProc(proc int) error {
	if s.account.UID == 0 {
		return nil
	}
	return directory(0o555, func(self int) error {
		return directory(0o111, nameDescriptors)(self, "fd")
	})(proc, "self")
}

func (s *supervisor) nameStream(dir, n int, stream *os.File) error {
	fd := int(stream.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	isDevice := st.Mode&unix.S_IFMT == unix.S_IFCHR
	switch {
	case isDevice && s.req.Interactive && (s.req.Terminal || step.IsSessionTerminal(fd)):
		return unix.Symlinkat("tty", dir, streamNames[n])
	case n == 0 && isDevice && st.Rdev == unix.Mkdev(1, 3):
		return unix.Symlinkat("null", dir, streamNames[n])
	case n == 0:
		stop, err := step.FeedPipe(dir, streamNames[n], fd, s.account.UID)
		if err == nil {
			s.OnUndo(func() error { stop(); return nil })
		}
		return err
	case n == 2 && s.pipes[1] != nil && isSame(os.Stdout, os.Stderr):
		s.pipes[2] = s.pipes[1]
		return unix.Symlinkat(streamNames[1], dir, streamNames[n])
	}
	return s.addPipe(dir, n, stream)
}

// isSame reports whether two open files are the same file.
func isSame(a, b *os.File) bool {
	i, err := a.Stat()
	j, err2 := b.Stat()
	return err == nil && err2 == nil && os.SameFile(i, j)
}

// addPipe makes a named pipe in a step's /dev and copies from it to the standard stream
// n. If the stream was made for the command, the command writes to the pipe only, which
// keeps the order of all its output.
func (s *supervisor) addPipe(dir, n int, to io.Writer) error {
	name := streamNames[n]
	if err := unix.Mkfifoat(dir, name, 0o666); err != nil {
		return err
	}
	// The pipe is open for writing too, so that it never ends and no writer waits.
	fd, err := unix.Openat(dir, name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	pipe := os.NewFile(uintptr(fd), name)
	if s.req.Own&(1<<n) != 0 {
		write, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		s.pipes[n] = os.NewFile(uintptr(write), name)
		s.OnUndo(s.pipes[n].Close)
	}
	done := make(chan struct{})
	go func() {
		// The wrappers hide ReadFrom and WriteTo, so that a read deadline ends the copy.
		io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{pipe})
		close(done)
	}()
	s.OnUndo(func() error {
		pipe.SetReadDeadline(time.Unix(1, 0))
		<-done
		defer pipe.Close()
		return drain(fd, to)
	})
	return nil
}

// drain copies the content of a nonblocking pipe.
func drain(fd int, to io.Writer) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if n <= 0 || err != nil {
			return nil // empty
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return nil // a write of the command would have failed too
		}
	}
}
