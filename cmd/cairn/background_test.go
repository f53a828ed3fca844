package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// background is a program that a script runs in the background.
type background struct {
	cmd  *exec.Cmd
	out  output
	done chan struct{}
	err  error

	terminal *os.File // the user's end, if it has one
	reading  sync.WaitGroup
}

// output collects the output of a program.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

type (
	backgroundKey struct{}
	deadlineKey   struct{}
	serverKey     struct{}
)

type backgrounds struct{ byName map[string]*background }

func (b *backgrounds) kill() {
	for _, bg := range b.byName {
		_ = bg.cmd.Process.Kill() // it may have ended
		<-bg.done
	}
}

func backgroundOf(ts *testscript.TestScript, name string) *background {
	bg := ts.Value(backgroundKey{}).(*backgrounds).byName[name]
	if bg == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return bg
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "start NAME PROGRAM [ARG...]")
	c := programCommand(ts, args[1:])
	bg := &background{cmd: c}
	c.Stdout, c.Stderr = &bg.out, &bg.out
	bg.start(ts, args[0])
}

// cmdTerminal starts a program on its own terminal.
func cmdTerminal(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "terminal NAME PROGRAM [ARG...]")
	c := programCommand(ts, args[1:])
	user, tty, err := openTerminal()
	ts.Check(err)
	defer tty.Close()
	ts.Check(os.Chmod(tty.Name(), 0o666))
	bg := &background{cmd: c, terminal: user}
	c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	bg.reading.Go(func() { _, _ = io.Copy(&bg.out, user) }) // ends with EIO when the last program has gone
	bg.start(ts, args[0])
}

// openTerminal returns the ends of a pseudo terminal, the user's first.
func openTerminal() (user, tty *os.File, err error) {
	if user, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	number, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100})
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err == nil {
		err = keepOutput(tty)
	}
	if err != nil {
		user.Close()
	}
	return user, tty, err
}

// keepOutput sets NOFLSH: after an interrupt character Linux first sends the signal and
// then drops the output that has not been read, which can be the program's last words.
func keepOutput(tty *os.File) error {
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	state.Lflag |= unix.NOFLSH
	return unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, state)
}

func cmdType(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "type NAME TEXT")
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	_, err = io.WriteString(backgroundOf(ts, args[0]).terminal, text)
	ts.Check(err)
}

// programCommand returns a command with the script's directory and environment.
func programCommand(ts *testscript.TestScript, args []string) *exec.Cmd {
	path := args[0]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		full := filepath.Join(dir, args[0])
		if _, err := os.Stat(full); err == nil && !strings.Contains(args[0], "/") {
			path = full
			break
		}
	}
	c := exec.Command(path, args[1:]...)
	c.Dir, c.Env = ts.MkAbs("."), environment(ts)
	c.WaitDelay = 30 * time.Second // a grandchild may keep the pipe open
	return c
}

// start starts the program under a name.
func (bg *background) start(ts *testscript.TestScript, name string) {
	b := ts.Value(backgroundKey{}).(*backgrounds)
	if b.byName == nil {
		b.byName = map[string]*background{}
	}
	bg.done = make(chan struct{})
	ts.Check(bg.cmd.Start())
	b.byName[name] = bg
	go func() {
		bg.err = bg.cmd.Wait()
		bg.reading.Wait()
		close(bg.done)
	}()
}

// environment returns the script's variables that cairn reads.
func environment(ts *testscript.TestScript) (env []string) {
	for _, name := range []string{"PATH", "HOME", "CAIRN_ROOT", "CAIRN_ISOLATION", "CAIRN_GVISOR", "CAIRN_REGISTRY_MIRROR", "BUILDKIT_PROGRESS", "TMPDIR", "DOCKER_CONFIG", "TERM", "NO_COLOR"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "await NAME PATTERN")
	bg, pattern := backgroundOf(ts, args[0]), regexp.MustCompile(`(?m)`+args[1])
	for {
		if pattern.MatchString(bg.out.String()) {
			return
		}
		select {
		case <-late(ts):
			ts.Fatalf("no %q from %s until the test's deadline, but:\n%s", args[1], args[0], bg.out.String())
		case <-bg.done:
			if !pattern.MatchString(bg.out.String()) {
				ts.Fatalf("%s ended (%v) without %q:\n%s", args[0], bg.err, args[1], bg.out.String())
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// late returns a channel that is closed shortly before the deadline of the test, so
// that the failure can name the program that the script waits for.
func late(ts *testscript.TestScript) <-chan time.Time {
	deadline, ok := ts.Value(deadlineKey{}).(time.Time)
	if !ok {
		return nil
	}
	return time.After(time.Until(deadline) - 10*time.Second)
}

func cmdSend(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "send NAME SIGNAL")
	sig := unix.SignalNum("SIG" + args[1])
	if sig == 0 {
		ts.Fatalf("no signal %s", args[1])
	}
	if err := backgroundOf(ts, args[0]).cmd.Process.Signal(sig); !errors.Is(err, os.ErrProcessDone) {
		ts.Check(err)
	}
}

func cmdEnds(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "ends NAME STATUS")
	bg := backgroundOf(ts, args[0])
	select {
	case <-bg.done:
	case <-late(ts):
		ts.Fatalf("%s did not end until the test's deadline:\n%s", args[0], bg.out.String())
	}
	fmt.Fprint(ts.Stdout(), bg.out.String())
	status := bg.cmd.ProcessState.Sys().(syscall.WaitStatus)
	got := status.ExitStatus()
	if status.Signaled() {
		got = 128 + int(status.Signal())
	}
	if strconv.Itoa(got) != args[1] {
		ts.Fatalf("%s ended with status %d, not %s", args[0], got, args[1])
	}
}

// cmdResize changes the size of the terminal of a program.
func cmdResize(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "resize NAME ROWS COLUMNS")
	rows, err := strconv.ParseUint(args[1], 10, 16)
	ts.Check(err)
	columns, err := strconv.ParseUint(args[2], 10, 16)
	ts.Check(err)
	size := &unix.Winsize{Row: uint16(rows), Col: uint16(columns)}
	ts.Check(unix.IoctlSetWinsize(int(backgroundOf(ts, args[0]).terminal.Fd()), unix.TIOCSWINSZ, size))
}

// cmdCooked waits until the terminal of a program is in the mode of lines or, with no,
// passes on all keys.
func cmdCooked(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "cooked NAME yes|no")
	const lines = unix.ICANON | unix.ECHO | unix.ISIG
	for {
		state, err := unix.IoctlGetTermios(int(backgroundOf(ts, args[0]).terminal.Fd()), unix.TCGETS)
		ts.Check(err)
		if got := state.Lflag & lines; args[1] == "yes" && got == lines || args[1] == "no" && got == 0 {
			return
		}
		select {
		case <-late(ts):
			ts.Fatalf("the terminal of %s has the flags %#x until the test's deadline", args[0], state.Lflag)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
