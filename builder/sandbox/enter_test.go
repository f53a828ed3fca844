package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// actInside runs in a process that Enter has started: it prints its ids, and then performs
// the act in its environment.
func actInside() int {
	uid, gid := HostIDs()
	fmt.Println("inside", os.Getuid(), os.Getgid(), uid, gid, os.Getenv(entered) == "", len(os.Args))
	switch os.Getenv("THEN") {
	case "":
		return 7
	case "die":
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	case "count":
		return countSignals()
	case "fill":
		return fill(os.Getenv("DIR") + "/alive")
	}
	return 2
}

// countSignals prints received signals until none has come for a while.
func countSignals() int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	fmt.Println("ready")
	fmt.Println("got", <-signals)
	for {
		select {
		case s := <-signals:
			fmt.Println("got", s)
		case <-time.After(300 * time.Millisecond):
			return 0
		}
	}
}

func fill(name string) int {
	f, err := os.Create(name)
	for err == nil {
		_, err = f.WriteString("x")
		time.Sleep(time.Millisecond)
	}
	return 1
}

// ordinary is a user with subordinate ids, and a folder with the test binary.
type ordinary struct {
	dir        string
	uid, gid   int
	credential *syscall.Credential
}

// ordinaryUser returns a user of /etc/subuid. It skips the test without root.
func ordinaryUser(t testing.TB) ordinary {
	t.Helper()
	if os.Getuid() != 0 || InUserNamespace() {
		t.Skip("needs real root, to act as an ordinary user")
	}
	text, _ := os.ReadFile("/etc/subuid")
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, ":")
		u, err := user.Lookup(name)
		if err != nil || u.Uid == "0" {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		o := ordinary{uid: uid, gid: gid, credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		m := machine{"/", uid, gid, name, exec.LookPath}
		if unmet := append(m.unmetSysctls(), m.unmetForRanges()...); len(unmet) > 0 {
			t.Skipf("user %s cannot have a user namespace: %v", name, unmet)
		}
		o.home(t)
		return o
	}
	t.Skip("needs a user with a range in /etc/subuid (make packages makes one)")
	return ordinary{}
}

func (o *ordinary) home(t testing.TB) {
	t.Helper()
	var err error
	o.dir, err = os.MkdirTemp("/var/tmp", "sandbox-test")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(o.dir) })
	program, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(o.dir+"/test", program, 0o755))
	must(t, os.Mkdir(o.dir+"/tmp", 0o755))
	must(t, os.Chown(o.dir+"/tmp", o.uid, o.gid))
	must(t, os.Chmod(o.dir, 0o755))
}

// command starts the test binary as the user.
func (o ordinary) command(act string, env ...string) *exec.Cmd {
	cmd := exec.Command(o.dir+"/test", "one argument")
	cmd.Dir = o.dir + "/tmp"
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + o.dir + "/tmp", "DIR=" + o.dir + "/tmp", "SANDBOX_TEST_ACT=" + act}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: o.credential}
	return cmd
}

// TestAsOrdinaryUser runs all other tests as an ordinary user.
func TestAsOrdinaryUser(t *testing.T) {
	o := ordinaryUser(t)
	cmd := o.command("")
	cmd.Args = []string{cmd.Path, "-test.v", "-test.short=" + strconv.FormatBool(testing.Short())}
	if end, ok := t.Deadline(); ok { // so that a test that hangs is named
		cmd.Args = append(cmd.Args, "-test.timeout="+(time.Until(end)-5*time.Second).String())
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: TestOutcome")) {
		t.Errorf("tests were skipped:\n%s", out)
	}
	if left := entries(t, o.dir+"/tmp"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestEnter(t *testing.T) {
	o := ordinaryUser(t)
	want := fmt.Sprintln("inside", 0, 0, o.uid, o.gid, true, 2)
	out, err := o.command("status").Output()
	if code, ok := err.(*exec.ExitError); !ok || code.ExitCode() != 7 || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	_, err = o.command("status", "THEN=die").Output()
	if code, ok := err.(*exec.ExitError); !ok || code.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Errorf("got %v, want the signal that ended the process inside", err)
	}
}

func TestEnterIsNothingForRoot(t *testing.T) {
	if !mayMount() {
		t.Skip("needs root")
	}
	if at, err := Enter(""); err != nil || at.Mode != Namespaces {
		t.Error(at, err)
	}
}

// TestEnterIdentity checks that root without CAP_SYS_ADMIN keeps all ids.
func TestEnterIdentity(t *testing.T) {
	o := ordinaryUser(t)
	cmd := exec.Command("setpriv", "--bounding-set=-sys_admin", o.dir+"/test", "x")
	cmd.Env = []string{"SANDBOX_TEST_ACT=status"}
	out, err := cmd.Output()
	if code, ok := err.(*exec.ExitError); !ok || code.ExitCode() != 7 || string(out) != "inside 0 0 0 0 true 2\n" {
		t.Errorf("got %q, %v", out, err)
	}
	root := image(t, nil)
	s := spec(t, root, "")
	cmd = exec.Command("setpriv", "--bounding-set=-sys_admin", o.dir+"/test")
	cmd.Env = []string{
		"SANDBOX_TEST_ACT=enter", "ROOT=" + root, "DIR=" + filepath.Dir(s.Upper),
		"SCRIPT=chown 12345:54321 /etc/passwd && stat -c %u:%g /etc/passwd",
	}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "12345:54321\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestOuterKilled checks that kill -9 of the process outside of the user namespace ends
// the one inside and its steps.
func TestOuterKilled(t *testing.T) {
	o := ordinaryUser(t)
	root := image(t, nil)
	for d := root; d != filepath.Clean(os.TempDir()) && d != "/"; d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	for _, d := range []string{"/upper", "/work"} {
		must(t, os.Mkdir(o.dir+"/tmp"+d, 0o755))
		must(t, os.Chown(o.dir+"/tmp"+d, o.uid, o.gid))
	}
	for _, test := range []struct{ act, file string }{{"enter", "/upper/alive"}, {"status", "/alive"}} {
		cmd := o.command(test.act, "THEN=fill", "ROOT="+root, "SCRIPT=trap '' TERM HUP INT; echo ready; while :; do echo x; sleep 0.01; done >> /alive")
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(test.act, line, err)
		}
		awaitWriter(t, o.dir+"/tmp"+test.file)
		must(t, cmd.Process.Kill())
		_, err = io.Copy(io.Discard, out)
		must(t, err)
		cmd.Wait()
		assertNoWriter(t, o.dir+"/tmp"+test.file)
	}
}

func TestSignalsAreForwarded(t *testing.T) {
	o := ordinaryUser(t)
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGINT} {
		cmd := o.command("status", "THEN=count")
		cmd.SysProcAttr.Setsid = true // no terminal
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for lines.Scan() && lines.Text() != "ready" {
		}
		must(t, cmd.Process.Signal(s))
		var got []string
		for lines.Scan() {
			got = append(got, lines.Text())
		}
		if want := "got " + s.String(); len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// TestKeyOnTerminal checks that the interrupt key reaches the process inside once.
func TestKeyOnTerminal(t *testing.T) {
	o := ordinaryUser(t)
	keyboard, terminal := openTerminal(t)
	cmd := o.command("status", "THEN=count")
	cmd.Stdin = terminal
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	must(t, os.Chown(terminal.Name(), o.uid, o.gid))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
	}
	_, err = keyboard.Write([]byte{3})
	must(t, err)
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
	}
	if len(got) != 1 || got[0] != "got interrupt" {
		t.Errorf("got %q", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func openTerminal(t testing.TB) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { keyboard.Close() })
	must(t, unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	must(t, err)
	terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { terminal.Close() })
	return keyboard, terminal
}

// TestInteractiveTerminal checks that a command reads from the caller's terminal and gets
// the signals of its keys.
func TestInteractiveTerminal(t *testing.T) {
	root := image(t, nil)
	s := spec(t, root, "")
	keyboard, terminal := openTerminal(t)
	cmd := again(t, "interactive", "ROOT="+root, "DIR="+filepath.Dir(s.Upper),
		"SCRIPT=trap 'echo key; exit 5' INT; read line; echo read $line; while :; do sleep 0.01; done")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, cmd.Start())
	terminal.Close()
	_, err := keyboard.WriteString("typed\n")
	must(t, err)
	lines := bufio.NewScanner(keyboard)
	for lines.Scan() && !strings.Contains(lines.Text(), "read typed") {
	}
	_, err = keyboard.Write([]byte{3})
	must(t, err)
	for lines.Scan() && !strings.Contains(lines.Text(), "key") {
	}
	err = cmd.Wait()
	if code, ok := err.(*exec.ExitError); !ok || code.ExitCode() != 5 {
		t.Errorf("got %v", err)
	}
}

// interact runs a command like `cairn run -it`.
func interact() int {
	signal.Ignore(unix.SIGINT)
	r, err := Run(context.Background(), Spec{
		Lowers: []string{os.Getenv("ROOT")}, Upper: os.Getenv("DIR") + "/upper", Work: os.Getenv("DIR") + "/work",
		Args: []string{"/bin/sh", "-c", os.Getenv("SCRIPT")}, User: os.Getenv("STEP_USER"), Interactive: true,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return r.ExitCode
}
