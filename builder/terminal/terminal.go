// Package terminal connects a command to the caller's terminal through a terminal of the
// command's own.
//
// The caller's terminal passes on all keys meanwhile. A process of its own, the guard,
// restores it if this process is killed: main must call [Hook] first.
package terminal

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Options describe the terminals.
type Options struct {
	In, Out *os.File // the caller's terminal
	// Kill, unless nil, is called at a Ctrl-C after one that the command has not answered.
	// A message announces that.
	Kill func()
	// Signals is set for commands of which the kernel does not know that they are on a
	// terminal. It gets the signals that the kernel would send them.
	Signals chan<- os.Signal
}

// Is reports whether a file is a terminal.
func Is(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Terminal is a terminal for a command.
type Terminal struct {
	Options
	own    *os.File // the command's
	master *os.File
	before *term.State
	guard  *guard
	resize chan os.Signal
	stop   *os.File // closing it ends copyInput
	ended  chan struct{}
	copied chan struct{}

	mu       sync.Mutex
	answers  int  // pieces of output other than the echo of Ctrl-C
	asked    bool // the caller was told that Ctrl-C kills
	finished bool
}

// answerTime is the time in which a command that got Ctrl-C has to write something.
const answerTime = time.Second

// Open makes a terminal for a command. The caller's terminal passes on all keys until
// Close.
func Open(o Options) (_ *Terminal, err error) {
	t := &Terminal{Options: o, resize: make(chan os.Signal, 1), ended: make(chan struct{}), copied: make(chan struct{})}
	if t.master, t.own, err = openPTY(); err != nil {
		return nil, fmt.Errorf("open a terminal for the command: %w", err)
	}
	stopped, stop, err := os.Pipe()
	if err != nil {
		t.closePTY()
		return nil, err
	}
	t.stop = stop
	if t.guard, err = startGuard(o.In); err == nil {
		if t.before, err = term.MakeRaw(int(o.In.Fd())); err != nil {
			t.guard.end()
		}
	}
	if err != nil {
		t.closePTY()
		stopped.Close()
		stop.Close()
		return nil, fmt.Errorf("pass on the keys of the terminal: %w", err)
	}
	t.copySize()
	signal.Notify(t.resize, unix.SIGWINCH)
	go func() {
		for s := range t.resize {
			t.copySize()
			t.send(s)
		}
	}()
	go t.copyInput(stopped)
	go t.copyOutput()
	return t, nil
}

// File returns the command's end of its terminal. It belongs to t.
func (t *Terminal) File() *os.File { return t.own }

func (t *Terminal) closePTY() {
	t.master.Close()
	t.own.Close()
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
	size, err := unix.IoctlGetWinsize(int(t.In.Fd()), unix.TIOCGWINSZ)
	if err == nil {
		// Without a size programs use a default one.
		_ = unix.IoctlSetWinsize(int(t.own.Fd()), unix.TIOCSWINSZ, size)
	}
}

// send sends a signal to a command that the kernel does not send it to.
func (t *Terminal) send(s os.Signal) {
	if t.Signals == nil {
		return
	}
	select {
	case t.Signals <- s:
	default: // the buffer is full: drop it
	}
}

const interrupt = 0x03 // Ctrl-C

// copyInput passes on keys until stop is closed, so that later keys are for others.
func (t *Terminal) copyInput(stop *os.File) {
	defer close(t.ended)
	defer stop.Close()
	in := int(t.In.Fd())
	ready := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(stop.Fd()), Events: unix.POLLIN}}
	b := make([]byte, 4096)
	for {
		if _, err := unix.Poll(ready, -1); err == unix.EINTR {
			continue
		} else if err != nil || ready[1].Revents != 0 {
			return
		}
		n, err := unix.Read(in, b)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		if t.Kill != nil && bytes.IndexByte(b[:n], interrupt) >= 0 && t.interrupted() {
			t.Kill()
			return
		}
		t.signalKeys(b[:n])
		if _, err := t.master.Write(b[:n]); err != nil {
			return
		}
	}
}

// signalKeys sends the signals that keys have in the state of the command's terminal.
func (t *Terminal) signalKeys(keys []byte) {
	if t.Signals == nil {
		return
	}
	state, err := unix.IoctlGetTermios(int(t.own.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ISIG == 0 {
		return
	}
	for _, key := range keys {
		switch {
		case key == 0: // stands for no key
		case key == state.Cc[unix.VINTR]:
			t.send(unix.SIGINT)
		case key == state.Cc[unix.VQUIT]:
			t.send(unix.SIGQUIT)
		case key == state.Cc[unix.VSUSP]:
			t.send(unix.SIGTSTP)
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
			fmt.Fprint(t.Out, "\r\ncairn: still running; press Ctrl-C again to kill it\r\n")
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
			_, _ = t.Out.Write(b[:n])
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
	t.stop.Close()
	t.master.Close()
	<-t.ended
	err := term.Restore(int(t.In.Fd()), t.before)
	t.guard.end()
	return err
}
