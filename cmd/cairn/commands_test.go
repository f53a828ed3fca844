package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
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

	"github.com/cairn-build/cairn/registry/serve"
)

// commands are what scripts can do beside the usual.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// exits STATUS PROGRAM [ARG...] runs a program that must end with a status.
	// Its output is shown with $WORK, $REGISTRY and $HUB in place of their values.
	"exits": cmdExits,
	// confined STATUS PROGRAM [ARG...] is exits where no user namespace can be made.
	"confined": cmdConfined,
	// start NAME PROGRAM [ARG...] runs a program in the background.
	"start": cmdStart,
	// await NAME PATTERN waits until the program's output has the pattern.
	"await": cmdAwait,
	// send NAME SIGNAL sends the program a signal: INT, TERM, KILL.
	"send": cmdSend,
	// ends NAME STATUS waits for the program's end; 128 + n after signal n.
	"ends": cmdEnds,
	// registry start|stop|auth USER PASSWORD changes the script's registry.
	"registry": cmdRegistry,
	// clean checks that builds left nothing: no mount, process, temporary file.
	"clean": cmdClean,
	// gone waits until no process of a killed build is left.
	"gone": cmdGone,
	// address NAME VARIABLE takes the address that a registry printed.
	"address": cmdAddress,
	// capture NAME puts the last standard output into a variable.
	"capture": cmdCapture,
	// inorder FILE PATTERN... checks that a file has all, in this order.
	"inorder": cmdInOrder,
	// own FILE... gives files made by the script to whoever runs cairn.
	"own": cmdOwn,
}

func need(ts *testscript.TestScript, neg bool, args []string, n int, usage string) {
	if neg || len(args) < n {
		ts.Fatalf("usage: %s", usage)
	}
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "exits STATUS PROGRAM [ARG...]")
	got, err := exitCode(ts.Exec(args[1], args[2:]...))
	ts.Check(err)
	named := strings.NewReplacer(ts.Getenv("WORK"), "$WORK", ts.Getenv("REGISTRY"), "$REGISTRY", ts.Getenv("HUB"), "$HUB")
	stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	if out, err := named.Replace(stdout), named.Replace(stderr); out != stdout || err != stderr {
		fmt.Fprint(ts.Stdout(), out)
		fmt.Fprint(ts.Stderr(), err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s ended with status %d, not %s", args[1], got, args[0])
	}
}

// cmdConfined gives the program a user namespace with all ids that allows none
// below it.
func cmdConfined(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "confined STATUS PROGRAM [ARG...]")
	all := []syscall.SysProcIDMap{{Size: 1 << 16}}
	c := exec.Command("/bin/sh", append([]string{"-c", `echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"`, "sh"}, args[1:]...)...)
	c.Dir, c.Env = ts.MkAbs("."), environment(ts)
	c.Stdout, c.Stderr = ts.Stdout(), ts.Stderr()
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true,
	}
	got, err := exitCode(c.Run())
	ts.Check(err)
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s ended with status %d, not %s", args[1], got, args[0])
	}
}

func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "capture NAME")
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func cmdInOrder(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "inorder FILE PATTERN...")
	text := ts.ReadFile(args[0])
	for _, pattern := range args[1:] {
		at := regexp.MustCompile(`(?m)` + pattern).FindStringIndex(text)
		if at == nil {
			ts.Fatalf("%q is not in the rest of %s:\n%s", pattern, args[0], text)
		}
		text = text[at[1]:]
	}
}

func cmdOwn(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "own FILE...")
	var st unix.Stat_t
	ts.Check(unix.Stat(ts.Getenv("HOME"), &st))
	for _, name := range args {
		ts.Check(filepath.Walk(ts.MkAbs(name), func(path string, _ os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, int(st.Uid), int(st.Gid))
		}))
	}
}

// background is a program that runs beside the script.
type background struct {
	cmd  *exec.Cmd
	out  output
	done chan struct{}
	err  error
}

// output collects what a program prints.
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
	b := ts.Value(backgroundKey{}).(*backgrounds)
	if b.byName == nil {
		b.byName = map[string]*background{}
	}
	path := args[1]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if full := filepath.Join(dir, args[1]); !strings.Contains(args[1], "/") && exec.Command(full).Err == nil {
			if _, err := os.Stat(full); err == nil {
				path = full
				break
			}
		}
	}
	bg := &background{cmd: exec.Command(path, args[2:]...), done: make(chan struct{})}
	bg.cmd.Dir, bg.cmd.Stdout, bg.cmd.Stderr = ts.MkAbs("."), &bg.out, &bg.out
	bg.cmd.WaitDelay = 30 * time.Second // not for ever, when a grandchild keeps the pipe
	bg.cmd.Env = environment(ts)
	ts.Check(bg.cmd.Start())
	b.byName[args[0]] = bg
	go func() {
		bg.err = bg.cmd.Wait()
		close(bg.done)
	}()
}

// environment is the script's, as far as cairn cares.
func environment(ts *testscript.TestScript) (env []string) {
	for _, name := range []string{"PATH", "HOME", "CAIRN_ROOT", "CAIRN_REGISTRY_MIRROR", "BUILDKIT_PROGRESS", "TMPDIR", "DOCKER_CONFIG"} {
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
		case <-bg.done:
			if !pattern.MatchString(bg.out.String()) {
				ts.Fatalf("%s ended (%v) without %q:\n%s", args[0], bg.err, args[1], bg.out.String())
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func cmdSend(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "send NAME SIGNAL")
	sig := unix.SignalNum("SIG" + args[1])
	if sig == 0 {
		ts.Fatalf("no signal %s", args[1])
	}
	ts.Check(backgroundOf(ts, args[0]).cmd.Process.Signal(sig))
}

func cmdEnds(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "ends NAME STATUS")
	bg := backgroundOf(ts, args[0])
	<-bg.done
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

// server is the registry of a script.
type server struct {
	dir, addr      string
	user, password string
	listener       net.Listener
}

func (s *server) start() error {
	h, err := serve.Handler(s.dir, serve.Options{NoSync: true, Auth: func(user, password string, _ bool) bool {
		return user == s.user && password == s.password
	}})
	if err != nil {
		return err
	}
	addr := s.addr
	if addr == "" { // of its own, so that nothing takes the port while it is stopped
		addr = fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
	}
	if s.listener, err = net.Listen("tcp", addr); err != nil {
		return err
	}
	s.addr = s.listener.Addr().String()
	server := &http.Server{Handler: h}
	go func(l net.Listener) { _ = server.Serve(l) }(s.listener) // ends with stop
	return nil
}

func (s *server) stop() {
	if s.listener != nil {
		_ = s.listener.Close() // what is connected ends by itself
		s.listener = nil
	}
}

func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "registry start|stop|auth USER PASSWORD")
	s := ts.Value(serverKey{}).(*server)
	switch args[0] {
	case "start":
		ts.Check(s.start())
	case "stop":
		s.stop()
	case "auth":
		need(ts, neg, args, 3, "registry auth USER PASSWORD")
		s.stop()
		s.user, s.password = args[1], args[2]
		ts.Check(s.start())
	default:
		ts.Fatalf("registry cannot %s", args[0])
	}
}

// cmdClean looks for what a build may leave.
func cmdClean(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "clean")
	root := ts.Getenv("CAIRN_ROOT")
	if list := mountsOf(root); len(list) > 0 {
		ts.Fatalf("mounts, or processes in them, are left: %s", list)
	}
	boots, err := filepath.Glob(root + "/trees/*/*/work")
	ts.Check(err)
	left := boots
	for _, pattern := range []string{"/tmp/*", "/trash/*"} {
		list, err := filepath.Glob(root + pattern)
		ts.Check(err)
		left = append(left, list...)
	}
	if len(left) > 0 {
		ts.Fatalf("temporary files are left: %s", left)
	}
	checkBlobs(ts, root)
}

// cmdGone waits for the kernel, which ends processes in its own time.
func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "gone")
	for len(mountsOf(ts.Getenv("CAIRN_ROOT"))) > 0 {
		time.Sleep(5 * time.Millisecond)
	}
}

func cmdAddress(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "address NAME VARIABLE")
	found := regexp.MustCompile(`http://(\S+)`).FindStringSubmatch(backgroundOf(ts, args[0]).out.String())
	if found == nil {
		ts.Fatalf("%s has printed no address", args[0])
	}
	ts.Setenv(args[1], found[1])
}

// mountsOf lists the processes that see a mount of something below dir.
func mountsOf(dir string) (found []string) {
	tables, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err == nil && bytes.Contains(b, []byte(dir+"/")) {
			found = append(found, name)
		}
	}
	return found
}

// checkBlobs reads every blob: what has a name is whole.
func checkBlobs(ts *testscript.TestScript, root string) {
	list, err := filepath.Glob(root + "/blobs/sha256/*")
	ts.Check(err)
	for _, name := range list {
		f, err := os.Open(name)
		ts.Check(err)
		h := sha256.New()
		_, err = io.Copy(h, f)
		ts.Check(err)
		ts.Check(f.Close())
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != filepath.Base(name) {
			ts.Fatalf("blob %s has digest %s", name, got)
		}
	}
}
