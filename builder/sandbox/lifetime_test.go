package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// perform performs an act in a test binary that a test has started.
func perform(act string) int {
	switch act {
	case "write-self":
		return writeSelf()
	case "euid":
		fmt.Println(os.Geteuid())
		return 0
	case "connect":
		return dialSockets()
	case "probe":
		return probeForTest()
	case "interactive":
		return interact()
	case "run":
		return runForTest()
	case "enter":
		if _, err := Enter(""); err != nil {
			fmt.Println(err)
			return 1
		}
		return runForTest()
	case "status":
		if _, err := Enter(""); err != nil {
			fmt.Println(err)
			return 1
		}
		return actInside()
	}
	return 2
}

// dialSockets connects to an abstract socket of the machine, and to one that it makes.
func dialSockets() int {
	own, err := net.Listen("unix", "@own-"+os.Getenv("SANDBOX_TEST_SOCKET"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer own.Close()
	for _, name := range []string{own.Addr().String(), os.Getenv("SANDBOX_TEST_SOCKET")} {
		c, err := net.Dial("unix", name)
		if err == nil {
			err = c.Close()
		}
		fmt.Println(errors.Is(err, unix.EPERM), err == nil)
	}
	return 0
}

// writeSelf reports whether the file of the running program could be written to after it
// has ended.
func writeSelf() int {
	err := unix.Access("/proc/self/exe", unix.W_OK)
	if err == nil {
		f, err := os.Open("/proc/self/exe")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
		if err != nil || seals&unix.F_SEAL_WRITE == 0 {
			fmt.Println("writable", err)
			return 1
		}
	}
	fmt.Println("refused:", err)
	return 0
}

func probeForTest() int {
	at, err := Enter("")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	r, err := at.Probe("/store")
	fmt.Printf("mode %s, snapshot %s", r.Mode, r.Snapshot)
	for _, l := range r.Unmet {
		fmt.Printf(", unmet %s: %s (%s)", l.Feature, l.Problem, l.Remedy)
	}
	fmt.Println(err)
	return 0
}

// runForTest runs a script in a tree, both from the environment, with folders below
// the working directory.
func runForTest() int {
	s := Spec{
		Lowers: []string{os.Getenv("ROOT")}, Upper: os.Getenv("DIR") + "/upper", Work: os.Getenv("DIR") + "/work",
		Args: []string{"/bin/sh", "-c", os.Getenv("SCRIPT")}, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	r, err := Run(context.Background(), s)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return r.ExitCode
}

// again returns a command that runs the test binary to perform an act.
func again(t testing.TB, act string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), append(env, "SANDBOX_TEST_ACT="+act)...)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestCancelKillsTree(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := spec(t, image(t, nil), "trap '' TERM INT; date > /alive; setsid sh -c 'trap \"\" TERM INT; while :; do date; sleep 0.01; done >> /alive' & echo ready; sleep 1000")
	out := make(notify)
	s.Stdout = out
	go func() {
		<-out
		awaitWriter(t, s.Upper+"/alive")
		cancel()
	}()
	if _, err := Run(ctx, s); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	assertNoWriter(t, s.Upper+"/alive")
}

// hasWriter reports whether a process has a file open for writing: then the kernel
// refuses a read lease.
func hasWriter(t testing.TB, file string) bool {
	t.Helper()
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return false
	}
	must(t, err)
	defer unix.Close(fd)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if err != nil && err != unix.EAGAIN {
		t.Errorf("lease %s: %v", file, err)
	}
	return err == unix.EAGAIN
}

// awaitWriter waits until a process has a file open for writing.
func awaitWriter(t testing.TB, file string) {
	for !hasWriter(t, file) && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

// assertNoWriter fails if a file is missing, or a process keeps it open for writing. A
// process that is being killed may still have it open for a moment.
func assertNoWriter(t testing.TB, file string) {
	t.Helper()
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(time.Minute); hasWriter(t, file); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is still being written", file)
		}
	}
}

// TestKilledCaller checks that kill -9 of the caller ends the step and leaves no mount.
func TestKilledCaller(t *testing.T) {
	s := spec(t, image(t, nil), "")
	mounts := mountCount(t)
	cmd := again(t, "run", "ROOT="+s.Lowers[0], "DIR="+strings.TrimSuffix(s.Upper, "/upper"),
		"SCRIPT=trap '' TERM INT HUP; date > /alive; echo ready; while :; do date; sleep 0.01; done >> /alive")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatal(line, err)
	}
	must(t, cmd.Process.Kill())
	// The pipe ends when the last process of the step has ended.
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Error(err)
	}
	cmd.Wait()
	assertNoWriter(t, s.Upper+"/alive")
	if after := mountCount(t); after != mounts {
		t.Errorf("%d mounts, %d before", after, mounts)
	}
}

func mountCount(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	return strings.Count(string(text), "\n")
}

func TestRuntimeIsReplaced(t *testing.T) {
	b := new(Sandbox)
	defer b.Close()
	s := spec(t, image(t, nil), "echo ready; sleep 1000")
	out := make(notify)
	s.Stdout = out
	go func() {
		<-out
		b.runtime.mu.Lock()
		defer b.runtime.mu.Unlock()
		must(t, b.runtime.current.child.Kill())
	}()
	if _, err := b.Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "runtime process has ended") {
		t.Errorf("error %v", err)
	}
	if o, err := tryIn(b, spec(t, s.Lowers[0], "echo again")); err != nil || o.out != "again\n" {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestCloseKills(t *testing.T) {
	b := new(Sandbox)
	s := spec(t, image(t, nil), "echo ready; sleep 1000")
	out := make(notify)
	s.Stdout = out
	go func() {
		<-out
		must(t, b.Close())
	}()
	if _, err := b.Run(t.Context(), s); err == nil {
		t.Error("no error")
	}
}

func TestParallelRuns(t *testing.T) {
	root := image(t, nil)
	var wg sync.WaitGroup
	for i := range 24 {
		s := spec(t, root, fmt.Sprintf("echo %d > /dev/shm/n; hostname; cat /dev/shm/n; exit %d", i, i))
		s.Hostname = "host" + strconv.Itoa(i)
		wg.Go(func() {
			o, err := try(s)
			if want := fmt.Sprintf("host%d\n%d\n", i, i); err != nil || o.out != want || o.ExitCode != i {
				t.Errorf("run %d: %+v, %v", i, o, err)
			}
		})
	}
	wg.Wait()
}

// TestNothingIsLeft checks that no descriptor, mount or process is left after runs, whether
// they succeed or not.
func TestNothingIsLeft(t *testing.T) {
	root := image(t, nil)
	b := new(Sandbox)
	defer b.Close()
	tryIn(b, spec(t, root, "true"))
	proc := fmt.Sprintf("/proc/%d/", b.runtime.current.child.Pid)
	count := func() (own, fds, mounts int) {
		entries, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		own = len(entries)
		entries, err = os.ReadDir(proc + "fd")
		must(t, err)
		text, err := os.ReadFile(proc + "mountinfo")
		must(t, err)
		return own, len(entries), strings.Count(string(text), "\n")
	}
	own, fds, mounts := count()
	// Descriptors up to 5 have a fixed use in child processes, so requests must not get them.
	for fd := range 6 {
		if _, err := os.Readlink(fmt.Sprint(proc, "fd/", fd)); err != nil {
			t.Errorf("the descriptor %d is free for a request: %v", fd, err)
		}
	}
	for i := range 10 {
		tryIn(b, spec(t, root, "exit 1"))
		s := spec(t, root, "true")
		switch i % 4 {
		case 0:
			s.Args[0] = "/missing"
		case 1:
			s.User = "missing"
		case 2:
			s.Mounts = []Mount{{Type: "bind", Source: "/etc", Target: "/bin/busybox"}}
		case 3:
			s.Upper += "/missing"
		}
		if _, err := tryIn(b, s); err == nil {
			t.Error("no error")
		}
	}
	// Sockets are closed just after the reply.
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		o, f, m := count()
		if o <= own && f <= fds && m == mounts {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("descriptors here %d, in the runtime process %d, its mounts %d; before %d, %d, %d", o, f, m, own, fds, mounts)
		}
	}
	left, err := os.ReadDir(proc + "root/proc/fs")
	must(t, err)
	if len(left) > 4 {
		t.Errorf("left in the scratch folder of the runtime process: %v", left)
	}
}
