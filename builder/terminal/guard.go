package terminal

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// guardArgument is the first argument of a guard.
const guardArgument = "cairn-terminal"

// guard is a process that restores a terminal when this process has been killed.
type guard struct {
	process *os.Process
	pipe    *os.File
}

// startGuard starts the guard of a terminal in its present state.
func startGuard(tty *os.File) (*guard, error) {
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(state)
	if err != nil {
		return nil, err
	}
	in, pipe, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		pipe.Close()
		return nil, err
	}
	defer null.Close()
	// In a session of its own it gets no signal of the terminal.
	process, err := os.StartProcess("/proc/self/exe", []string{guardArgument, string(text)}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{tty, in, null}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		pipe.Close()
		return nil, fmt.Errorf("start the guard of the terminal: %w", err)
	}
	return &guard{process, pipe}, nil
}

// end ends the guard without a change of the terminal.
func (g *guard) end() {
	g.process.Kill()
	_, _ = g.process.Wait()
	g.pipe.Close()
}

// Hook must be called first in main. It does not return in the process that guards a
// terminal.
func Hook() {
	if len(os.Args) != 2 || os.Args[0] != guardArgument {
		return
	}
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGTTOU)
	var state unix.Termios
	if json.Unmarshal([]byte(os.Args[1]), &state) != nil {
		os.Exit(1)
	}
	_, _ = os.NewFile(1, "pipe").Read(make([]byte, 1)) // ends with the other process
	if unix.IoctlSetTermios(0, unix.TCSETS, &state) != nil {
		os.Exit(1)
	}
	os.Exit(0)
}
