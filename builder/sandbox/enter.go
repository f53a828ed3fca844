package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"golang.org/x/sys/unix"
)

// entered is the environment variable of a process that Enter has started in a user
// namespace.
const entered = "CAIRN_USER_NAMESPACE"

// mayMount reports whether the process is root with CAP_SYS_ADMIN in its user namespace.
func mayMount() bool {
	return os.Geteuid() == 0 && effective()&(1<<unix.CAP_SYS_ADMIN) != 0
}

// effective returns the effective capabilities of the process, 0 if they cannot be read.
func effective() uint64 {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return 0
	}
	return uint64(sets[1].Effective)<<32 | uint64(sets[0].Effective)
}

// HostIDs returns the ids that this process has outside its user namespace. These are 0,
// 0 for the machine's root.
func HostIDs() (uid, gid int) {
	return outside("/proc/self/uid_map", os.Getuid()), outside("/proc/self/gid_map", os.Getgid())
}

// outside looks an id up in an id map. Its lines are ranges: first id, first id outside,
// count.
func outside(file string, id int) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return id
	}
	for line := range strings.Lines(string(text)) {
		var first, parent, count int
		if n, _ := fmt.Sscan(line, &first, &parent, &count); n == 3 && id >= first && id < first+count {
			return parent + id - first
		}
	}
	return id
}

// enter executes the program again in a new user namespace and waits for it to end.
func enter(ids idMaps) (unix.WaitStatus, error) {
	// The kernel kills the child when the thread that has started it ends.
	runtime.LockOSThread()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(signals)
	child, done, err := startInside(ids)
	if err != nil {
		return 0, err
	}
	go forwardToChild(signals, child.PIDFD)
	status, err := waitFor(child.PID)
	if err != nil {
		return 0, err
	}
	return status, done()
}

// startInside executes the program again in a user namespace with the given ids. The
// child process waits for the ids before it executes the program, because it gets its
// capabilities by that.
func startInside(ids idMaps) (launch.Child, func() error, error) {
	none := launch.Child{}
	gate, err := newGate()
	if err != nil {
		return none, nil, err
	}
	defer gate.close()
	child, done, err := gate.program().StartAsync(unix.CLONE_NEWUSER)
	if err != nil {
		return none, nil, fmt.Errorf("make a user namespace: %w", err)
	}
	if err := ids.write(child.PID); err != nil {
		gate.close()
		waitFor(child.PID)
		return none, nil, err
	}
	gate.open()
	return child, done, nil
}

// gate makes a child process wait until its ids are set. The child reads from one pipe,
// and writes to another one to find out whether its parent is alive.
type gate struct{ wait, alive [2]int }

func newGate() (*gate, error) {
	g := &gate{[2]int{-1, -1}, [2]int{-1, -1}}
	err := errors.Join(unix.Pipe2(g.wait[:], unix.O_CLOEXEC), unix.Pipe2(g.alive[:], unix.O_CLOEXEC))
	if err != nil {
		g.close()
		return nil, fmt.Errorf("open a pipe: %w", err)
	}
	return g, nil
}

// program returns the program of the child process.
func (g *gate) program() *launch.Program {
	p := new(launch.Program)
	b := launch.Pointer(p, new([1]byte))
	p.Do("close a pipe", unix.SYS_CLOSE, uintptr(g.wait[1]))
	p.Do("close a pipe", unix.SYS_CLOSE, uintptr(g.alive[0]))
	// If the pipe ends instead, no ids are set, and the next call fails.
	p.Do("wait for the ids", unix.SYS_READ, uintptr(g.wait[0]), b, 1)
	p.Do("become root of the user namespace", unix.SYS_SETRESGID, 0, 0, 0)
	p.Do("become root of the user namespace", unix.SYS_SETRESUID, 0, 0, 0)
	p.Do("set the signal for the death of the parent", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	// If the parent has died before, SIGPIPE kills the child here.
	p.Do("write to the parent", unix.SYS_WRITE, uintptr(g.alive[1]), b, 1)
	// AppArmor, for example, allows the namespace but no privileges in it.
	p.Do("mount in the user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	p.Do("mount in the user namespace", unix.SYS_FSOPEN, p.String("tmpfs"), unix.FSOPEN_CLOEXEC)
	p.Exec("/proc/self/exe", os.Args, append(os.Environ(), entered+"=1"))
	return p
}

// open lets the child continue, and returns after the child has checked that this process
// is alive.
func (g *gate) open() {
	unix.Close(g.alive[1])
	g.alive[1] = -1
	b := make([]byte, 1)
	unix.Write(g.wait[1], b)
	unix.Read(g.alive[0], b)
}

func (g *gate) close() {
	for _, pipe := range []*[2]int{&g.wait, &g.alive} {
		for i, fd := range pipe {
			if fd >= 0 {
				unix.Close(fd)
				pipe[i] = -1
			}
		}
	}
}

// forwardToChild sends signals to the child process, except for those that the terminal
// sends to both.
func forwardToChild(signals <-chan os.Signal, pidfd int) {
	for s := range signals {
		number, ok := s.(syscall.Signal)
		if ok && (number != unix.SIGINT && number != unix.SIGQUIT || !inForeground()) {
			unix.PidfdSendSignal(pidfd, number, nil, 0)
		}
	}
}

// inForeground reports whether the terminal sends its signals to the process group of
// this process, in which the child process is too.
func inForeground() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func waitFor(pid int) (status unix.WaitStatus, err error) {
	for {
		if _, err = unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return status, err
		}
	}
}

// exitBySignal ends this process by a signal.
func exitBySignal(s syscall.Signal) {
	signal.Reset(s)
	unix.Kill(os.Getpid(), s)
	os.Exit(128 + int(s))
}

// idMaps are the id maps of a user namespace.
type idMaps struct {
	uids, gids []idRange
	identity   bool // for root: written without a setuid program
	single     bool // for a user with one id: written without a setuid program, no setgroups
}

// idRange maps the count ids from first on to the ids from parent on.
type idRange struct{ first, parent, count int64 }

// write sets the id maps of a process in a new user namespace.
func (m idMaps) write(pid int) error {
	if m.single {
		// The kernel requires this, as dropping a group could otherwise give access to
		// files that deny it to the group.
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/setgroups", pid), []byte("deny"), 0); err != nil {
			return fmt.Errorf("set the id map of the user namespace: %w", err)
		}
	}
	if m.identity || m.single {
		return errors.Join(writeMap(pid, "uid_map", m.uids), writeMap(pid, "gid_map", m.gids))
	}
	gids := make(chan error)
	go func() { gids <- runMapper("newgidmap", pid, m.gids) }()
	return errors.Join(runMapper("newuidmap", pid, m.uids), <-gids)
}

func writeMap(pid int, name string, ranges []idRange) error {
	var b strings.Builder
	for _, r := range ranges {
		fmt.Fprintln(&b, r.first, r.parent, r.count)
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, name), []byte(b.String()), 0); err != nil {
		return fmt.Errorf("set the id map of the user namespace: %w", err)
	}
	return nil
}

// runMapper sets an id map with newuidmap or newgidmap, which are setuid programs.
func runMapper(program string, pid int, ranges []idRange) error {
	args := []string{strconv.Itoa(pid)}
	for _, r := range ranges {
		for _, n := range []int64{r.first, r.parent, r.count} {
			args = append(args, strconv.FormatInt(n, 10))
		}
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
	}
	return nil
}
