package cgroup

import (
	"github.com/cairn-build/cairn/builder/sandbox/runtime/chroot"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"

	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Args[0] == wire.StepArgument {
		chroot.Become()
	}
	if file := os.Getenv("CGROUP_TEST_FILTERED"); file != "" {
		err := refuseClone3()
		if err == nil {
			_, err = new(launch.Program).Start(0)
		}
		if !errors.Is(err, unix.ENOSYS) {
			fmt.Println("clone3 is not refused:", err)
			os.Exit(1)
		}
		if err := runInGroup(strings.Split(file, ":")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if controller := os.Getenv("CGROUP_TEST_CONTROLLER"); controller != "" {
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadString('\n') // it is in its cgroup now
		if err := moveThereAndBack(controller); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestRealKernel checks that limits are set, and that a process in a group is killed with
// it.
func TestRealKernel(t *testing.T) {
	k := thisKernel(Caller{Root: os.Geteuid() == 0, PIDs: []int{os.Getpid()}})
	maker, err := k.open(Limits{Memory: 64 << 20, CPUs: 0.5, PIDs: 20, Parent: "cairn-test-" + strconv.Itoa(os.Getpid())})
	if _, unmet := errors.AsType[*Requirement](err); unmet {
		t.Skip(err)
	}
	must(t, err)
	defer func() { must(t, maker.Close()) }()
	g, err := maker.New()
	must(t, err)
	for _, want := range []struct{ one, two, text string }{
		{"memory.limit_in_bytes", "memory.max", "67108864"}, {"pids.max", "pids.max", "20"}, {"cpu.cfs_quota_us", "", "50000"}, {"", "cpu.max", "50000 100000"},
	} {
		for _, h := range g.held {
			name := want.one
			if h.at.unified {
				name = want.two
			}
			if text, err := os.ReadFile(h.dir + "/" + name); name != "" && err == nil && strings.TrimSpace(string(text)) != want.text {
				t.Errorf("%s has %q, want %q", name, text, want.text)
			}
		}
	}
	sleeper := exec.Command("sleep", "100000")
	must(t, sleeper.Start())
	for _, file := range g.Files() {
		must(t, write(file, strconv.Itoa(sleeper.Process.Pid)))
	}
	ended := make(chan error, 1)
	go func() { ended <- sleeper.Wait() }()
	held := g.held
	must(t, g.Remove())
	if err := <-ended; err == nil {
		t.Error("the process was not killed")
	}
	for _, h := range held {
		if _, err := os.Stat(h.dir); err == nil {
			t.Errorf("%s is still there", h.dir)
		}
	}
}

// TestEnterFiltered checks that a process can enter a group if a system call filter refuses
// clone3, as in most pods.
func TestEnterFiltered(t *testing.T) {
	filtered := func(files ...string) string {
		c := exec.Command("/proc/self/exe")
		c.Env = append(os.Environ(), "CGROUP_TEST_FILTERED="+strings.Join(files, ":"))
		out, err := c.CombinedOutput()
		if (err == nil) != (len(out) == 0) {
			t.Errorf("%v: %s", err, out)
		}
		return string(out)
	}
	dir := t.TempDir()
	one, two := dir+"/one", dir+"/two"
	must(t, os.WriteFile(one, nil, 0o644))
	must(t, os.WriteFile(two, nil, 0o644))
	if out := filtered(one, two); out != "" {
		t.Fatal(out)
	}
	for _, file := range []string{one, two} {
		text, err := os.ReadFile(file)
		must(t, err)
		if pid, err := strconv.Atoi(string(text)); err != nil || pid <= 1 {
			t.Errorf("entered %q", text)
		}
	}
	if out := filtered(one, dir+"/none"); !strings.Contains(out, "none: no such file") {
		t.Errorf("got %q", out)
	}
	k := thisKernel(Caller{Root: os.Geteuid() == 0, PIDs: []int{os.Getpid()}})
	maker, err := k.open(Limits{Memory: 64 << 20, PIDs: 20, Parent: "cairn-test-filtered-" + strconv.Itoa(os.Getpid())})
	if _, unmet := errors.AsType[*Requirement](err); unmet {
		t.Skip(err)
	}
	must(t, err)
	g, err := maker.New()
	must(t, err)
	if out := filtered(g.Files()...); out != "" {
		t.Error(out)
	}
	must(t, g.Remove())
	must(t, maker.Close())
}

// refuseClone3 sets a system call filter for all threads.
func refuseClone3() error {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE3, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter)))
	if errno != 0 {
		return errno
	}
	return nil
}

// TestRealVersion2 compares the model of version 2 with the kernel, using any controller
// that the machine has in version 2.
func TestRealVersion2(t *testing.T) {
	all, err := thisKernel(Caller{}).hierarchies()
	must(t, err)
	var controller, dir string
	for _, h := range all {
		text, _ := os.ReadFile(h.mount + "/cgroup.controllers")
		if f := strings.Fields(string(text)); h.unified && len(f) > 0 {
			controller, dir = f[0], fmt.Sprintf("%s/cairn-test-%d", h.mount, os.Getpid())
		}
	}
	if controller == "" {
		t.Skip("the machine has no controller in version 2")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("needs a writable cgroup file system: %v", err)
	}
	defer func() { must(t, unix.Rmdir(dir)) }()
	above := filepath.Dir(dir) + "/cgroup.subtree_control"
	before, err := os.ReadFile(above)
	must(t, err)
	if err := write(above, "+"+controller); err != nil {
		t.Skipf("the cgroup above may not be changed: %v", err)
	}
	if !strings.Contains(string(before), controller) {
		defer func() { must(t, write(above, "-"+controller)) }()
	}
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "CGROUP_TEST_CONTROLLER="+controller)
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	lines := bufio.NewReader(out)
	_, err = lines.ReadString('\n')
	must(t, err)
	must(t, write(dir+"/cgroup.procs", strconv.Itoa(c.Process.Pid)))
	fmt.Fprintln(in)
	said, _ := lines.ReadString('\n')
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if left := folders(dir); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// moveThereAndBack runs in a process that is alone in its cgroup.
func moveThereAndBack(controller string) error {
	k := thisKernel(Caller{PIDs: []int{os.Getpid()}})
	all, err := k.hierarchies()
	if err != nil {
		return err
	}
	h := *find(all, "")
	p := &place{hierarchy: h, needs: []string{controller}}
	m := &Maker{kernel: k, places: []*place{p}}
	if err := p.prepare(k, ""); err != nil {
		return err
	}
	if p.leaf == "" {
		return errors.New("it has not moved")
	}
	if err := m.try(); err != nil {
		return err
	}
	g, err := m.New()
	if err != nil {
		return err
	}
	if on, err := k.notListed(g.held[0].dir+"/cgroup.controllers", p.needs); err != nil || len(on) > 0 {
		return fmt.Errorf("the group lacks %s: %v", on, err)
	}
	sleeper := exec.Command("sleep", "100000")
	if err := sleeper.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- sleeper.Wait() }()
	if err := errors.Join(k.move([]int{sleeper.Process.Pid}, g.held[0].dir), g.Remove()); err != nil {
		return err
	}
	<-ended
	if err := m.Close(); err != nil {
		return err
	}
	again, err := k.hierarchies()
	if back := find(again, ""); err != nil || back.own != h.own {
		return fmt.Errorf("it is in %s now: %v", back.own, err)
	}
	return nil
}
