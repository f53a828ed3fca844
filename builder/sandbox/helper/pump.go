package helper

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pump makes a pipe in a step's /dev from which the keeper copies to one of the step's
// own streams: without /proc there is no other way to open these by name.
func (k *keeper) pump(dir int, name string, to io.Writer) error {
	if err := unix.Mkfifoat(dir, name, 0o666); err != nil {
		return err
	}
	// Open for writing too, so that it never ends and no writer waits.
	fd, err := unix.Openat(dir, name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	pipe := os.NewFile(uintptr(fd), name)
	done := make(chan struct{})
	go func() {
		io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{pipe}) // by reads, which a deadline ends
		close(done)
	}()
	k.undo = append(k.undo, func() error {
		pipe.SetReadDeadline(time.Unix(1, 0))
		<-done
		defer pipe.Close()
		return drain(fd, to)
	})
	return nil
}

// drain copies what is in a pipe by now.
func drain(fd int, to io.Writer) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if n <= 0 || err != nil {
			return nil // empty
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return nil // as the step's own writes would fail
		}
	}
}
