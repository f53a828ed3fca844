package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"github.com/cairn-build/cairn/layer/listing"
)

// serveGuest is a stand-in for cairn-gvisor. It prints the arguments of a command instead
// of running it. The command "die" ends the process, "wait" waits for the end of the
// stream, "refuse" is an error, "fail" has the status 3, and "reach" reaches a limit.
func serveGuest() {
	layers := map[string]string{}
	for {
		files, ok := receiveGuest()
		if !ok {
			os.Exit(0)
		}
		conn := files[0]
		var req guest.Request
		if err := wire.Receive(conn, &req); err != nil {
			os.Exit(1)
		}
		var reply guest.Reply
		switch req.Kind {
		case guest.KindLayer:
			if _, ok := layers[req.Layer.ID]; ok {
				reply.Error = "the layer is there twice"
			}
			layers[req.Layer.ID] = req.Layer.Listing
		case guest.KindRun:
			for _, id := range req.Run.Layers {
				if _, ok := layers[id]; !ok {
					reply.Error = "the layer " + id + " is not known"
				}
			}
			switch req.Run.Args[0] {
			case "die":
				fmt.Fprintln(os.Stderr, "panic: a test")
				os.Exit(2)
			case "be killed":
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			case "score":
				score, _ := os.ReadFile("/proc/self/oom_score_adj")
				fmt.Fprintf(files[2], "%s", score)
			case "wait":
				fmt.Fprintln(files[2], "waiting")
				_, _ = conn.Read(make([]byte, 1))
				reply.Status = int64(unix.SIGKILL)
			case "refuse":
				reply.Error = "it is refused"
			case "reach":
				reply.Limit = req.Run.Args[1]
				fmt.Fprintln(files[2], req.Run.Memory, req.Run.Processes)
			case "fail":
				reply.Status = 3 << 8
			default:
				fmt.Fprint(files[2], strings.Join(req.Run.Args, " "))
			}
		}
		err := wire.Send(conn, &reply)
		if err == nil && reply.Error == "" && req.Kind == guest.KindRun {
			err = guest.SendChanges(conn, []guest.Change{{Path: ".", Mode: unix.S_IFDIR | 0o755}})
		}
		for _, f := range files {
			f.Close()
		}
		if err != nil {
			os.Exit(1)
		}
	}
}

// receiveGuest receives the files of a connection.
func receiveGuest() (files []*os.File, ok bool) {
	oob := make([]byte, 256)
	_, n, _, _, err := unix.Recvmsg(guest.ControlFD, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		return nil, false
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, false
	}
	rights, err := unix.ParseUnixRights(&messages[0])
	for _, fd := range rights {
		files = append(files, os.NewFile(uintptr(fd), "received"))
	}
	return files, err == nil
}

// guestSpec describes a command for the stand-in.
func guestSpec(t *testing.T, args ...string) Spec {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	t.Setenv(guestVariable, self)
	x := &listing.Listing{Entries: []listing.Entry{{Path: ".", Type: listing.TypeDir, Mode: 0o755}}}
	return Spec{Args: args, Layers: []Layer{{ID: "one", Describe: func() (*listing.Listing, []guest.Time, error) { return x, nil, nil }}}}
}

// newGuest makes the shared kernel a new one for a test.
func newGuest(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { must(t, sharedGuest().close()) })
	must(t, sharedGuest().close())
}

func TestGuestRun(t *testing.T) {
	newGuest(t)
	for range 2 { // the second time the layer is known
		s := guestSpec(t, "say", "hello")
		var out strings.Builder
		s.Stdout = &out
		res, err := Run(t.Context(), s)
		must(t, err)
		if out.String() != "say hello" || res.ExitCode != 0 || len(res.Changes) != 1 || res.Changes[0].Path != "." {
			t.Errorf("%q, %+v", out.String(), res)
		}
	}
	if res, err := Run(t.Context(), guestSpec(t, "fail")); err != nil || res.ExitCode != 3 {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := Run(t.Context(), guestSpec(t, "refuse")); err == nil || err.Error() != "it is refused" {
		t.Errorf("error %v", err)
	}
}

// TestGuestLimits checks that the kernel gets the limits of a command, and that limits which
// it does not have are refused.
func TestGuestLimits(t *testing.T) {
	newGuest(t)
	i := Isolation{Mode: Gvisor}
	m, err := i.OpenCgroups(cgroup.Limits{Memory: 1 << 20, Swap: 1 << 20}, cgroup.Limits{PIDs: 7}, cgroup.Limits{})
	must(t, err)
	for _, test := range []struct {
		limits                     *cgroup.Maker
		reached, got, limitReached string
	}{
		{m, "memory", "1048576 0\n", "it reached the memory limit of 1MiB (--memory)"},
		{m.Other(cgroup.Limits{PIDs: 7}), "processes", "0 7\n", "it reached the limit of 7 processes (--pids-limit)"},
		{m.Other(cgroup.Limits{}), "", "0 0\n", ""},
		{m, "", "1048576 0\n", ""},
	} {
		s := guestSpec(t, "reach", test.reached)
		var out strings.Builder
		s.Stdout, s.Cgroups = &out, test.limits
		if res, err := Run(t.Context(), s); err != nil || out.String() != test.got || res.LimitReached != test.limitReached {
			t.Errorf("got %q, %q, %v; want %q, %q", out.String(), res.LimitReached, err, test.got, test.limitReached)
		}
	}
	must(t, m.Close())
	for flag, l := range map[string]cgroup.Limits{
		"--cpus": {CPUs: 1}, "--cpu-quota": {Quota: 1000}, "--cpu-period": {Period: 1000}, "--cpu-shares": {Shares: 2},
		"--memory-swap": {Memory: 1 << 20, Swap: -1}, "--cgroup-parent": {Parent: "/x"},
	} {
		_, err := i.OpenCgroups(cgroup.Limits{}, l)
		if err == nil || !strings.HasPrefix(err.Error(), "cannot limit steps: the isolation mode gvisor ") || !strings.Contains(err.Error(), "has no "+flag+": limit the container") {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if m, err := i.OpenCgroups(cgroup.Limits{}, cgroup.Limits{}); m != nil || err != nil {
		t.Errorf("without limits: %v, %v", m, err)
	}
}

// TestGuestDies checks that the end of the process is explained, and that the next command
// gets a new one, which learns all layers again.
func TestGuestDies(t *testing.T) {
	newGuest(t)
	for range 2 {
		_, err := Run(t.Context(), guestSpec(t, "die"))
		if err == nil || !strings.Contains(err.Error(), "cairn-gvisor has ended") || !strings.Contains(err.Error(), "panic: a test") {
			t.Errorf("error %v", err)
		}
	}
	if _, err := Run(t.Context(), guestSpec(t, "say")); err != nil {
		t.Error(err)
	}
}

// The last messages of a process are read even if it ends before anything was read.
func TestDrain(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close() // another process may hold the pipe open
	want := strings.Repeat("panic: a test\n", 1000)
	if _, err := w.WriteString(want); err != nil {
		t.Fatal(err)
	}
	if err := r.SetReadDeadline(pastTime); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	if n, err := io.Copy(&got, r); n != 0 || err == nil {
		t.Fatalf("copied %d bytes, %v", n, err)
	}
	if drain(r, &got); got.String() != want {
		t.Errorf("%d of %d bytes", got.Len(), len(want))
	}
}

// TestGuestKilled checks that the kernel kills cairn-gvisor before Cairn when memory is
// short, and that the error says so.
func TestGuestKilled(t *testing.T) {
	newGuest(t)
	s := guestSpec(t, "score")
	var out strings.Builder
	s.Stdout = &out
	if _, err := Run(t.Context(), s); err != nil || out.String() != "1000\n" {
		t.Errorf("score %q, error %v", out.String(), err)
	}
	_, err := Run(t.Context(), guestSpec(t, "be killed"))
	if err == nil || !strings.Contains(err.Error(), "cairn-gvisor was killed, probably because the container's memory is full") {
		t.Errorf("error %v", err)
	}
}

func TestGuestCancelled(t *testing.T) {
	newGuest(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	s := guestSpec(t, "wait")
	s.Stdout = writerFunc(func(p []byte) (int, error) { // the command has begun
		cancel(errors.New("enough"))
		return len(p), nil
	})
	if _, err := Run(ctx, s); err == nil || err.Error() != "enough" {
		t.Errorf("error %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestGuestRefuses(t *testing.T) {
	newGuest(t)
	s := guestSpec(t, "say")
	s.Insecure = true
	if _, err := Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "security=insecure is not available in the isolation mode gvisor") {
		t.Error(err)
	}
}

// TestGuestVolume checks that a directory of the machine is a volume.
func TestGuestVolume(t *testing.T) {
	s := Spec{Args: []string{"x"}, Mounts: []Mount{
		{Type: "bind", Source: t.TempDir(), Target: "/a"}, {Type: "bind", Source: t.TempDir(), Target: "/b", ReadOnly: true},
	}}
	req, err := s.request()
	must(t, err)
	run, err := s.guestRun(req)
	must(t, err)
	for i, m := range run.Mounts {
		if m.Type != guest.MountVolume || m.Source != s.Mounts[i].Source || m.ReadOnly != (i > 0) {
			t.Errorf("%+v", m)
		}
	}
}

func TestGuestProgram(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/file", nil, 0o644))
	for path, want := range map[string]string{
		"x":            `$CAIRN_GVISOR "x" is not an absolute path`,
		dir:            dir + " is not a program",
		dir + "/file":  dir + "/file is not a program",
		dir + "/other": "the program " + dir + "/other is missing",
	} {
		t.Setenv(guestVariable, path)
		if _, err := guestProgram(); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
		i := Isolation{Mode: Gvisor, Pinned: true}
		if err := i.CheckRun(); err == nil || !strings.Contains(err.Error(), "gvisor: "+want+": install cairn-gvisor beside cairn, or name it with $CAIRN_GVISOR") {
			t.Errorf("%s: %v", path, err)
		}
	}
	t.Setenv(guestVariable, "")
	if _, err := guestProgram(); err == nil || err.Error() != "the program cairn-gvisor is missing" {
		t.Errorf("%v", err)
	}
}

// TestGuestChosen checks that a kernel that can be started stays the mode, and that
// without one the mode is another.
func TestGuestChosen(t *testing.T) {
	newGuest(t)
	guestSpec(t)
	i := Isolation{Mode: Gvisor, Pinned: true}
	if got := i.Settled(); got.Mode != Gvisor {
		t.Errorf("%+v", got)
	}
	t.Setenv(guestVariable, "/bin/false")
	must(t, sharedGuest().close())
	got := i.Settled()
	if got.Mode != None || len(got.Unmet) != 1 || got.Unmet[0].Feature != string(Gvisor) ||
		got.Unmet[0].Error() != "/bin/false is not cairn-gvisor: it has ended (exit status 1): install cairn-gvisor beside cairn, or name it with $CAIRN_GVISOR" {
		t.Errorf("%+v", got)
	}
	i.Pinned = false
	if got := i.Settled(); got.Mode != None && got.Mode != Chroot || i.MayChroot() != (got.Mode == Chroot) {
		t.Errorf("%+v", got)
	}
}

func TestWarnNoProc(t *testing.T) {
	missing := []Requirement{mountRight(), guestMissing(errors.New("it is missing"))}
	const warning = "such as go, java and cargo, fail; the mode gvisor has them; for that, install cairn-gvisor beside cairn, or name it with $CAIRN_GVISOR ("
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/there", nil, 0o755))
	for _, test := range []struct {
		i             Isolation
		program, want string
	}{
		{Isolation{Mode: Chroot, Unmet: missing}, "", warning + "it is missing)"},
		{Isolation{Mode: Chroot, Pinned: true}, dir + "/none", warning + "the program " + dir + "/none is missing)"},
		{Isolation{Mode: Chroot, Pinned: true}, dir + "/there", ""},
		{Isolation{Mode: Namespaces, Unmet: missing}, "", ""},
		{Isolation{Mode: Gvisor, Unmet: missing[:1]}, "", ""},
	} {
		t.Setenv(guestVariable, test.program)
		if got := test.i.WarnNoProc(); !strings.HasSuffix(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%+v: %q", test.i, got)
		}
	}
}

// TestExplainGvisor has each reason for which the kernel may not start, and the setting
// that helps.
func TestExplainGvisor(t *testing.T) {
	const (
		cgroup   = "sys/fs/cgroup/"
		ptrace   = "cairn-gvisor: ptrace is refused: operation not permitted"
		apparmor = "proc/self/attr/apparmor/current"
		report   = "report it at https://github.com/cairn-build/cairn/issues"
		node     = "as root of the node: sysctl -w "
	)
	start := func(errno unix.Errno) error {
		return fmt.Errorf("start /x/cairn-gvisor: %w", &os.PathError{Op: "fork/exec", Path: "/x/cairn-gvisor", Err: errno})
	}
	for _, test := range []struct {
		name            string
		files           map[string]string
		err             error
		problem, remedy string
	}{
		{"ptrace scope", map[string]string{"proc/sys/kernel/yama/ptrace_scope": "2\n"}, errors.New(ptrace),
			ptrace + " (kernel.yama.ptrace_scope is 2, so that processes cannot trace their children)", node + "kernel.yama.ptrace_scope=1"},
		{"pids limit", map[string]string{cgroup + "pids.max": "200\n", cgroup + "pids.current": "190\n"}, start(unix.EAGAIN),
			start(unix.EAGAIN).Error() + " (190 of at most 200 processes exist)", "allow at least 254 processes; in a pod: the setting podPidsLimit of the kubelet"},
		{"pids limit, cgroup v1", map[string]string{cgroup + "pids/pids.max": "99\n", cgroup + "pids/pids.current": "36\n"}, errors.New("x"),
			"x (36 of at most 99 processes exist)", "allow at least 100 processes; in a pod: the setting podPidsLimit of the kubelet"},
		{"ulimit", map[string]string{cgroup + "pids.max": "max\n"}, start(unix.EAGAIN),
			start(unix.EAGAIN).Error(), "raise the user's limit of processes (ulimit -u) by 64"},
		{"memory files", map[string]string{"proc/sys/vm/memfd_noexec": "2\n"}, errors.New("memfd_create is refused"),
			"memfd_create is refused (vm.memfd_noexec is 2, so that no memory file can be executable)", node + "vm.memfd_noexec=1"},
		{"AppArmor", map[string]string{apparmor: "cri (enforce)\n"}, errors.New(ptrace),
			ptrace + " (the AppArmor profile cri is enforced)", "let it allow ptrace of children; in a pod: securityContext.appArmorProfile.type: RuntimeDefault or Unconfined"},
		{"AppArmor complains", map[string]string{apparmor: "cri (complain)\n"}, errors.New("x"), "x", report},
		{"SELinux", map[string]string{"sys/fs/selinux/enforce": "1", "proc/self/attr/current": "c_t\x00"}, errors.New("x"),
			"x (SELinux enforces the context c_t)", "let it allow ptrace and executable memory; in a pod: securityContext.seLinuxOptions.type"},
		{"SELinux permits", map[string]string{"sys/fs/selinux/enforce": "0", "proc/self/attr/current": "c_t\x00"}, errors.New("x"), "x", report},
		{"seccomp", map[string]string{"proc/self/status": "Name:\tx\nSeccomp:\t2\n"}, errors.New(ptrace),
			ptrace + " (a system call filter is set)", "let it allow ptrace, seccomp and prctl, as the default filters of container runtimes do; " +
				"in a pod: securityContext.seccompProfile.type: RuntimeDefault"},
		{"noexec", map[string]string{apparmor: "cri (enforce)\n"}, start(unix.EACCES),
			start(unix.EACCES).Error() + " (it may not be executed: its file system is mounted with noexec, or a security module forbids it)",
			"install cairn-gvisor where programs can be executed, and name it with $CAIRN_GVISOR"},
		{"of another machine", nil, start(unix.ENOEXEC), start(unix.ENOEXEC).Error(), "install the cairn-gvisor for " + goruntime.GOARCH},
		{"version", nil, errors.New("cairn-gvisor has version 0 of the messages and cairn has \"1\": install both from one release"),
			"cairn-gvisor has version 0 of the messages and cairn has \"1\"", "install both from one release"},
		{"another program", nil, &otherProgramError{"/x/y", "exit status 1"},
			"/x/y is not cairn-gvisor: it has ended (exit status 1)", "install cairn-gvisor beside cairn, or name it with $CAIRN_GVISOR"},
		{"unknown", map[string]string{cgroup + "pids.max": "max\n", cgroup + "pids/pids.max": "2000\n", "proc/sys/kernel/yama/ptrace_scope": "1\n"},
			errors.New("refused"), "refused", report},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, want := fakeMachine(t, test.files).explainGvisor(test.err), requirement(string(Gvisor), test.problem, test.remedy); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
	unmet := unmetArchitecture("riscv64")
	if len(unmet) != 1 || unmet[0] != requirement(string(Gvisor), "there is no gVisor for riscv64", "use a machine with one of amd64, arm64") {
		t.Errorf("%+v", unmet)
	}
}

func TestTail(t *testing.T) {
	var all tail
	for i := range tailSize {
		fmt.Fprintf(&all, "%d\n", i)
	}
	if got := all.reason(); len(all.buf) > 2*tailSize || got != fmt.Sprint(tailSize-1) {
		t.Errorf("%q of %d bytes", got, len(all.buf))
	}
	fmt.Fprint(&all, "panic: the reason\n\ngoroutine 1 [running]:\nx\n")
	if got := all.reason(); got != "panic: the reason" {
		t.Error(got)
	}
	if pastTime.After(time.Now()) {
		t.Error("the deadline is not in the past")
	}
}
