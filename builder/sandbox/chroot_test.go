package sandbox

import (
	"github.com/cairn-build/cairn/builder/sandbox/runtime/chroot"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"

	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inBothWays returns a shell command in namespaces and, for real root, by chroot.
func inBothWays(t *testing.T, root, script string) []Spec {
	t.Helper()
	list := []Spec{spec(t, root, script)}
	if InUserNamespace() {
		t.Log("not by chroot: the kernel makes no device nodes in a user namespace")
		return list
	}
	return append(list, plainly(t, script))
}

// plainly returns a shell command by chroot in a plain tree.
func plainly(t *testing.T, script string) Spec {
	t.Helper()
	if InUserNamespace() {
		t.Skip("the kernel makes no device nodes in a user namespace")
	}
	root := t.TempDir() + "/tree"
	must(t, os.Rename(image(t, nil), root))
	must(t, MountPoints(root))
	return Spec{Root: root, Chroot: true, Args: []string{"/bin/sh", "-c", script}}
}

// TestMovedFolderComesBack checks that a writable mount is moved into the tree and back,
// unless the command has replaced it, as by a link that would redirect later mounts.
func TestMovedFolderComesBack(t *testing.T) {
	t.Parallel()
	outside := tree(t, map[string]string{"secret": "secret"})
	for _, tt := range []struct{ script, err string }{
		{"echo more > /x/new", ""},
		{"rm -rf /x && ln -s " + outside + " /x", "moved or replaced the mount on /x"},
		{"mv /x /y && mkdir /x", "moved or replaced the mount on /x"},
		{"rm -rf /x", "moved or replaced the mount on /x"},
	} {
		source := tree(t, map[string]string{"old": "old"})
		s := plainly(t, tt.script)
		s.Mounts = []Mount{{Type: "bind", Source: source, Target: "/x"}}
		_, err := try(s)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: error %v, want %q", tt.script, err, tt.err)
		}
		if info, err := os.Lstat(source); err == nil && !info.IsDir() {
			t.Errorf("%s: the source is %v now", tt.script, info.Mode())
		}
		if _, err := os.Stat(source + "/new"); tt.err == "" && err != nil {
			t.Errorf("%s: %v", tt.script, err)
		}
		if _, err := os.Lstat(s.Root + "/x"); err == nil {
			t.Errorf("%s: /x is still in the tree", tt.script)
		}
	}
}

// TestSupervisorKilled checks that the processes of the command are killed, and that the
// folder is moved back from any place in the tree.
func TestSupervisorKilled(t *testing.T) {
	for _, script := range []string{
		"echo more > /a/x/new; echo ready > /dev/stdout; (setsid sleep 100000 &); sleep 100000",
		"echo more > /a/x/new; mkdir /c; mv /a /c/b; echo ready > /dev/stdout; sleep 100000",
	} {
		source := tree(t, map[string]string{"old": "old"})
		s := plainly(t, script)
		s.Mounts = []Mount{{Type: "bind", Source: source, Target: "/a/x"}}
		r, w, err := os.Pipe()
		must(t, err)
		s.Stdout = onlyWriter{w}
		ended := make(chan error, 1)
		go func() {
			_, err := Run(context.Background(), s)
			ended <- err
		}()
		_, err = bufio.NewReader(r).ReadString('\n')
		must(t, err)
		supervisors := 0
		for _, pid := range processes(t) {
			if parent, name := step.Parent(pid); parent == os.Getpid() && name == wire.SupervisorArgument {
				must(t, syscall.Kill(pid, syscall.SIGKILL))
				supervisors++
			}
		}
		if supervisors != 1 {
			t.Fatalf("%d supervisors", supervisors)
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "its supervisor has ended") {
			t.Errorf("error %v", err)
		}
		if text, err := os.ReadFile(source + "/new"); err != nil || string(text) != "more\n" {
			t.Errorf("%s: %q, %v", script, text, err)
		}
	}
}

// TestRecoverChroot checks that processes are found which a step starts while its killed
// supervisor is still ending, and processes in a tree that was moved to the trash.
func TestRecoverChroot(t *testing.T) {
	store := t.TempDir()
	container := store + "/trees/boot/one"
	must(t, os.MkdirAll(container+"/"+chroot.AsideDir, 0o755))
	must(t, os.Rename(plainly(t, "").Root, container+"/tree"))
	start := func() *exec.Cmd {
		c := exec.Command("/bin/sleep", "100000")
		c.SysProcAttr = &syscall.SysProcAttr{Chroot: container + "/tree"}
		must(t, c.Start())
		return c
	}
	wantKilled := func(c *exec.Cmd) {
		t.Helper()
		if err := c.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Errorf("the stray ended with %v", err)
		}
	}
	life, err := lock(container) // like the supervisor
	must(t, err)
	swept := make(chan error, 1)
	go func() { swept <- RecoverChroot(store) }()
	select {
	case err := <-swept:
		t.Fatalf("it did not wait for the supervisor: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	stray := start()
	must(t, life.Close())
	must(t, <-swept)
	wantKilled(stray)

	stray = start()
	must(t, os.Mkdir(store+"/trash", 0o755))
	must(t, os.Rename(container, store+"/trash/one"))
	must(t, RecoverChroot(store))
	wantKilled(stray)

	// It leaves the tree alone while the process that runs the command is alive.
	must(t, os.Rename(store+"/trash/one", container))
	held, err := lockAsideDir(container)
	must(t, err)
	stray = exec.Command("/bin/cat")
	stray.SysProcAttr = &syscall.SysProcAttr{Chroot: container + "/tree"}
	in, err := stray.StdinPipe()
	must(t, err)
	out, err := stray.StdoutPipe()
	must(t, err)
	must(t, stray.Start())
	must(t, RecoverChroot(store))
	_, err = io.WriteString(in, "alive\n")
	must(t, err)
	if said, err := bufio.NewReader(out).ReadString('\n'); said != "alive\n" {
		t.Errorf("a step that is looked after said %q: %v", said, err)
	}
	must(t, held.Close())
	must(t, RecoverChroot(store))
	wantKilled(stray)
}

// onlyWriter is not a file, so that the command gets a pipe.
type onlyWriter struct{ io.Writer }

func processes(t *testing.T) (list []int) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		must(t, err)
		list = append(list, pid)
	}
	return list
}

// TestSeenByChroot checks the documented differences to the other modes.
func TestSeenByChroot(t *testing.T) {
	t.Parallel()
	name, err := os.Hostname()
	must(t, err)
	o := run(t, plainly(t, "hostname; ls /dev"))
	seen := strings.Fields(o.out)
	if seen[0] != name {
		t.Errorf("the host is called %q, not %q", seen[0], name)
	}
	for _, file := range []string{"core", "mqueue", "ptmx", "pts"} {
		if slices.Contains(seen, file) {
			t.Errorf("/dev has %s", file)
		}
	}
	o = run(t, spec(t, image(t, nil), "hostname; ls /dev"))
	if want := "buildkitsandbox core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"; strings.Join(strings.Fields(o.out), " ") != want {
		t.Errorf("got %q, want %q", o.out, want)
	}
}

func TestLimitsByChroot(t *testing.T) {
	t.Parallel()
	s := plainly(t, "ulimit -n; ulimit -Hn; ulimit -c")
	s.Ulimits = []Ulimit{{"nofile", 50, 60}, {"core", 0, 0}}
	if o := run(t, s); o.out != "50\n60\n0\n" {
		t.Errorf("got %+v", o)
	}
}

// TestSourceIsNoLink checks that the source of a bind is not followed if it is a link.
func TestSourceIsNoLink(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"link": "->/etc"})
	for _, m := range []Mount{
		{Type: "bind", Source: dir + "/link", Target: "/x"},
		{Type: "bind", Source: dir + "/link", Target: "/x", ReadOnly: true},
		{Type: "bind", Source: dir + "/link", Target: "/x", Subpath: "/passwd"},
	} {
		for _, s := range inBothWays(t, image(t, nil), "true") {
			s.Mounts = []Mount{m}
			if _, err := try(s); err == nil || !strings.Contains(err.Error(), "too many levels of symbolic links") {
				t.Errorf("%+v, chroot %v: error %v", m, s.Chroot, err)
			}
		}
	}
}
