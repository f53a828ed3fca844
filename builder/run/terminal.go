package run

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Terminal connects a command to the caller's terminal through a terminal of its own.
type Terminal struct {
	own    *os.File // the command's
	master *os.File
	in     *os.File // the caller's
	out    io.Writer
	before *term.State
	resize chan os.Signal
	copied chan struct{}
	kill   func()

	mu       sync.Mutex
	answers  int  // pieces of output other than the echo of Ctrl-C
	asked    bool // the caller was told that Ctrl-C kills
	finished bool
}

// answerTime is the time in which a command that got Ctrl-C has to write something.
const answerTime = time.Second

// OpenTerminal makes a terminal for a command. The caller's terminal, in and out, passes
// on all keys until Close. A Ctrl-C that the command does not answer is followed by a
// message; the next one calls kill.
func OpenTerminal(in, out *os.File, kill func()) (*Terminal, error) {
	master, own, err := openPTY()
	if err != nil {
		return nil, fmt.Errorf("open a terminal for the command: %w", err)
	}
	t := &Terminal{own: own, master: master, in: in, out: out, resize: make(chan os.Signal, 1), copied: make(chan struct{}), kill: kill}
	if t.before, err = term.MakeRaw(int(in.Fd())); err != nil {
		master.Close()
		own.Close()
		return nil, fmt.Errorf("pass on the keys of the terminal: %w", err)
	}
	t.copySize()
	signal.Notify(t.resize, unix.SIGWINCH)
	go func() {
		for range t.resize {
			t.copySize()
		}
	}()
	go t.copyInput()
	go t.copyOutput()
	return t, nil
}

// openPTY opens a pair of pseudoterminals.
func openPTY() (master, own *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	raw, err := master.SyscallConn()
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	var fd uintptr
	var number int
	var errno unix.Errno
	controlErr := raw.Control(func(m uintptr) {
		if err = unix.IoctlSetPointerInt(int(m), unix.TIOCSPTLCK, 0); err != nil {
			return
		}
		number, _ = unix.IoctlGetInt(int(m), unix.TIOCGPTN)
		fd, _, errno = unix.Syscall(unix.SYS_IOCTL, m, unix.TIOCGPTPEER, uintptr(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC))
		if errno != 0 {
			err = errno
		}
	})
	if controlErr != nil {
		err = controlErr
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, os.NewFile(fd, "/dev/pts/"+strconv.Itoa(number)), nil
}

// copySize gives the command's terminal the size of the caller's.
func (t *Terminal) copySize() {
	size, err := unix.IoctlGetWinsize(int(t.in.Fd()), unix.TIOCGWINSZ)
	if err == nil {
		// Without a size programs use a default one.
		_ = unix.IoctlSetWinsize(int(t.own.Fd()), unix.TIOCSWINSZ, size)
	}
}

const interrupt = 0x03 // Ctrl-C

// copyInput passes on keys. It ends with the process, or when the terminal is closed.
func (t *Terminal) copyInput() {
	b := make([]byte, 4096)
	for {
		n, err := t.in.Read(b)
		if err != nil {
			return
		}
		if bytes.IndexByte(b[:n], interrupt) >= 0 && t.interrupted() {
			t.kill()
			return
		}
		if _, err := t.master.Write(b[:n]); err != nil {
			return
		}
	}
}

// interrupted notes a Ctrl-C. It reports whether the command is to be killed.
func (t *Terminal) interrupted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asked {
		return true
	}
	before := t.answers
	time.AfterFunc(answerTime, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.answers == before && !t.asked && !t.finished {
			t.asked = true
			fmt.Fprint(t.out, "\r\ncairn: still running; press Ctrl-C again to kill it\r\n")
		}
	})
	return false
}

// copyOutput passes on output until no process has the command's terminal open.
func (t *Terminal) copyOutput() {
	defer close(t.copied)
	b := make([]byte, 32<<10)
	for {
		n, err := t.master.Read(b)
		if n > 0 {
			t.mu.Lock()
			if len(bytes.Trim(b[:n], "\r\n^C")) > 0 { // more than the echo
				t.answers++
				t.asked = false
			}
			t.mu.Unlock()
			// The error cannot be reported: the terminal is gone.
			_, _ = t.out.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// Close passes on the last output, and restores the caller's terminal. It must be called
// after the command.
func (t *Terminal) Close() error {
	t.own.Close()
	<-t.copied
	t.mu.Lock()
	t.finished = true
	t.mu.Unlock()
	signal.Stop(t.resize)
	close(t.resize)
	t.master.Close()
	return term.Restore(int(t.in.Fd()), t.before)
}
