package chroot

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

// Become turns this process, which a supervisor has started, into the command of the
// request on wire.ControlFD. If that fails, it sends the error to the supervisor and
// exits.
func Become() {
	runtime.LockOSThread() // privileges are the thread's; execve ends the other threads
	conn := os.NewFile(wire.ControlFD, "request")
	var req wire.Request
	err := wire.Receive(conn, &req)
	if err == nil {
		err = become(&req)
	}
	reply := wire.Reply{}
	reply.SetErr(err)
	wire.Send(conn, &reply)
	os.Exit(127)
}

func become(req *wire.Request) error {
	cgroups, err := step.OpenCgroups(req.CgroupFiles)
	if err != nil {
		return err
	}
	bounding, openFiles := step.BoundingSet(), step.OpenFiles() // while /proc is there
	root, err := unix.Open(req.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the tree: %w", err)
	}
	account, err := step.LookUp(root, req.User, req.Groups...)
	if err != nil {
		return err
	}
	if err := enterTree(root, req.Dir); err != nil {
		return err
	}
	unix.Setrlimit(unix.RLIMIT_NOFILE, &openFiles)
	if err := setUlimits(req.Ulimits); err != nil {
		return err
	}
	if err := dropPrivileges(account, bounding, uint64(req.DropCaps)); err != nil {
		return err
	}
	unix.Umask(0o022)
	unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	resetSignals()
	if err := enterCgroups(cgroups); err != nil {
		return err
	}
	env := step.Environment(req.Env, account.Home)
	return step.ExplainExec(root, req, execute(step.Executables(req.Args[0], env), req.Args, env))
}

// enterCgroups moves this process into its control groups. It uses raw system calls,
// because a limit on processes may leave no room for another thread of the Go runtime.
func enterCgroups(files []int) error {
	self := [1]byte{'0'}
	for _, fd := range files {
		_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&self)), 1)
		if errno != 0 {
			return fmt.Errorf("enter the step's cgroup: %w", errno)
		}
	}
	return nil
}

// enterTree makes the tree the root directory, and dir the working directory.
func enterTree(root int, dir string) error {
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change the root directory: %w", err)
	}
	if dir == "" {
		dir = "/"
	}
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("enter the working directory %q: %w", dir, err)
	}
	return nil
}

func setUlimits(list []wire.Ulimit) error {
	for _, l := range list {
		limit := &unix.Rlimit{Cur: uint64(l.Soft), Max: uint64(l.Hard)}
		if err := unix.Setrlimit(int(l.Resource), limit); err != nil {
			return fmt.Errorf("set the ulimit %s to %d:%d: %w", l.Name, l.Soft, l.Hard, err)
		}
	}
	return nil
}

// stepCapabilities returns the capabilities of a command by chroot. With CAP_SYS_CHROOT
// it could leave its root directory, with the others it could inspect Cairn or open
// devices.
func stepCapabilities() uint64 {
	return step.DefaultCapabilities() &^ (1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_MKNOD | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_SETPCAP)
}

// dropPrivileges changes to the account and drops capabilities of the bounding set: those
// of drop, and all that a step does not have.
func dropPrivileges(account step.Account, bounding, drop uint64) error {
	allowed := bounding & stepCapabilities() &^ drop
	for n := range 64 {
		if bit := uint64(1) << n; bounding&bit != 0 && allowed&bit == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil {
				return fmt.Errorf("drop capabilities: %w", err)
			}
		}
	}
	unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if err := setAccount(account); err != nil {
		return err
	}
	if account.UID != 0 {
		return nil
	}
	head, sets := step.CapabilitySets(allowed)
	if err := unix.Capset(&head, &sets[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// setAccount sets the ids of this thread: the functions of package syscall would set
// those of all threads.
func setAccount(account step.Account) error {
	groups := append(account.Groups[:len(account.Groups):len(account.Groups)], 0) // so that it has an address
	uid, gid := uintptr(account.UID), uintptr(account.GID)
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(account.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid)
	}
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid)
	}
	if errno != 0 {
		return fmt.Errorf("become user %d:%d: %w", account.UID, account.GID, errno)
	}
	return nil
}

// resetSignals resets all signals to their default action. The supervisor ignores some,
// and the parent of Cairn may have ignored others.
func resetSignals() {
	var standard [4]uint64 // struct sigaction with SIG_DFL
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&standard)), 0, 8, 0, 0)
		}
	}
}

// execute executes the first of some files that exists. If none can be executed, it
// returns the failure of one that exists, if there is one.
func execute(files, args, env []string) error {
	var last *launch.Failure
	for _, path := range files {
		err := unix.Exec(path, args, env)
		errno, _ := errors.AsType[unix.Errno](err)
		f := &launch.Failure{Attempt: path, Exec: true, Errno: errno}
		if errno != unix.ENOENT && errno != unix.EACCES && errno != unix.ENOTDIR {
			return f
		}
		if last == nil || last.Errno != unix.EACCES {
			last = f
		}
	}
	return last
}
