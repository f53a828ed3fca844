package sandbox

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// names returns a script that opens the standard streams by the names that start with a
// prefix.
func names(in, out, errs string) string {
	return strings.NewReplacer("IN", in, "OUT", out, "ERR", errs).Replace(
		"echo one; echo two > OUT; echo three; echo e > ERR; echo e; exec 3> OUT; echo four >&3; wc -c < IN")
}

// TestStreamsByName checks that a command of any user can open its standard streams by
// name, and that the output is in order.
func TestStreamsByName(t *testing.T) {
	t.Parallel()
	const want = "one\ntwo\nthree\ne\nfour\n0\n"
	for _, user := range []string{"", "1001", "1001:5", "7:root"} {
		for _, script := range []string{
			names("/dev/stdin", "/dev/stdout", "/dev/stderr"), names("/dev/fd/0", "/dev/fd/1", "/dev/fd/2"),
			names("/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"),
		} {
			for _, s := range inBothWays(t, image(t, nil), script) {
				if s.Chroot && user == "" && strings.Contains(script, "/proc") {
					continue // chroot has no /proc/self for root
				}
				s.User = user
				o, err := try(s)
				if err != nil || o.out != want || o.err != "e\n" {
					t.Errorf("chroot %v, user %q, %s: got %q, errors %q, %v", s.Chroot, user, script, o.out, o.err, err)
				}
			}
		}
	}
}

// TestStreamsBelongToTheUser checks the owner of a pipe that was made for a command.
func TestStreamsBelongToTheUser(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "stat -L -c '%u %g %a' /dev/stdout")
	s.User = "1001:5"
	if o := run(t, s); o.out != "1001 0 600\n" {
		t.Errorf("got %q", o.out)
	}
}

// TestFilesOfTheCaller runs a command of another user on a file and a pipe of the caller.
// It can open them by name, and they keep their owner and mode.
func TestFilesOfTheCaller(t *testing.T) {
	t.Parallel()
	script := "read line < /dev/stdin; echo $line; echo two > /dev/stdout; echo three > /dev/stderr; echo four > /dev/fd/1"
	const want = "line\ntwo\nthree\nfour\n"
	for _, s := range inBothWays(t, image(t, nil), script) {
		in, feed, err := os.Pipe()
		must(t, err)
		_, err = feed.WriteString("line\nmore\n")
		must(t, err)
		out, err := os.OpenFile(t.TempDir()+"/out", os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		before, err := out.Stat()
		must(t, err)
		s.User, s.Interactive = "1001", true
		s.Stdin, s.Stdout, s.Stderr = in, out, out
		if r, err := Run(t.Context(), s); err != nil || r.ExitCode != 0 {
			t.Errorf("got %+v, %v", r, err)
		}
		after, err := out.Stat()
		must(t, err)
		got, err := os.ReadFile(out.Name())
		if err != nil || string(got) != want {
			t.Errorf("chroot %v: got %q, %v", s.Chroot, got, err)
		}
		was, is := before.Sys().(*syscall.Stat_t), after.Sys().(*syscall.Stat_t)
		if was.Uid != is.Uid || was.Gid != is.Gid || was.Mode != is.Mode {
			t.Errorf("the owner or mode changed from %+v to %+v", was, is)
		}
		for _, f := range []io.Closer{in, feed, out} {
			f.Close()
		}
	}
}

// TestUnreadInput checks that input which a command does not read stays with the caller.
func TestUnreadInput(t *testing.T) {
	t.Parallel()
	in, feed, err := os.Pipe()
	must(t, err)
	defer in.Close()
	_, err = feed.WriteString("for the next\n")
	must(t, err)
	must(t, feed.Close())
	s := spec(t, image(t, nil), "true")
	s.User, s.Stdin = "1001", in
	run(t, s)
	if rest, err := io.ReadAll(in); err != nil || string(rest) != "for the next\n" {
		t.Errorf("left over: %q, %v", rest, err)
	}
}

// TestOutputToNobody checks that a command ends as if it wrote to the caller's pipe, if
// the reader of that has gone.
func TestOutputToNobody(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	must(t, err)
	must(t, r.Close())
	defer w.Close()
	s := spec(t, image(t, nil), "exec yes 2>/dev/null")
	s.User, s.Stdout = "1001", w
	if r, err := Run(t.Context(), s); err != nil || r.ExitCode == 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestSocketOutput checks that root, too, opens its output by name if it is a socket.
func TestSocketOutput(t *testing.T) {
	t.Parallel()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	s := spec(t, image(t, nil), "echo x > /dev/stdout")
	s.Stdout = theirs
	_, err = Run(t.Context(), s)
	must(t, errors.Join(err, theirs.Close()))
	if got, err := io.ReadAll(ours); err != nil || string(got) != "x\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestTerminalByName runs a command of another user on the caller's terminal.
func TestTerminalByName(t *testing.T) {
	keyboard, terminal := openTerminal(t)
	s := spec(t, image(t, nil), "")
	cmd := again(t, "interactive", "ROOT="+s.Lowers[0], "DIR="+filepath.Dir(s.Upper), "STEP_USER=1001",
		"SCRIPT=echo out > /dev/stdout; echo err > /dev/stderr; read line < /dev/stdin; echo read $line; test -t 1 || echo no terminal")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, cmd.Start())
	terminal.Close()
	_, err := keyboard.WriteString("typed\n")
	must(t, err)
	var got []string
	for lines := bufio.NewScanner(keyboard); lines.Scan(); {
		got = append(got, lines.Text())
	}
	if _, failed := errors.AsType[*exec.ExitError](cmd.Wait()); failed {
		t.Error("the command failed")
	}
	if text := strings.Join(got, "\n"); !strings.HasSuffix(text, "out\nerr\nread typed") {
		t.Errorf("got %q", text)
	}
}
