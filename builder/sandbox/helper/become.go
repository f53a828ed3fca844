package helper

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"golang.org/x/sys/unix"
)

// Become turns this process, which a keeper has started, into the command of the
// request on ControlFD. It returns only an error to the keeper, and ends.
func Become() {
	runtime.LockOSThread() // privileges are the thread's; execve ends the others
	conn := os.NewFile(ControlFD, "request")
	var req Request
	err := Receive(conn, &req)
	if err == nil {
		err = become(&req)
	}
	reply := Reply{}
	reply.fail(err)
	Send(conn, &reply)
	os.Exit(127)
}

func become(req *Request) error {
	groups, err := openGroups(req.Groups)
	if err != nil {
		return err
	}
	s := &server{}
	s.survey()
	root, err := unix.Open(req.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the tree: %w", err)
	}
	as, err := lookUp(root, req.User)
	if err != nil {
		return err
	}
	if err := enterTree(root, req.Dir); err != nil {
		return err
	}
	if err := s.limit(req.Limits); err != nil {
		return err
	}
	if err := s.resign(as); err != nil {
		return err
	}
	unix.Umask(0o022)
	unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	resetSignals()
	if err := enterGroups(groups); err != nil {
		return err
	}
	c := steps{req: req, as: as}
	return explain(&tree{req: req, root: root}, execute(c.candidates(), req.Args, c.environment()))
}

// enterGroups puts this process into its control groups: last, and without the runtime's
// knowledge, as they may leave it no room for another thread.
func enterGroups(files []int) error {
	self := [1]byte{'0'}
	for _, fd := range files {
		_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&self)), 1)
		if errno != 0 {
			return fmt.Errorf("enter the step's cgroup: %w", errno)
		}
	}
	return nil
}

// enterTree makes the tree the root directory. Nothing that is open leads out of it
// once the command runs.
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

// limit sets the limits that every command has, and those that are asked for.
func (s *server) limit(more []Limit) error {
	unix.Setrlimit(unix.RLIMIT_NOFILE, &s.openFiles)
	for _, l := range more {
		limit := &unix.Rlimit{Cur: uint64(l.Soft), Max: uint64(l.Hard)}
		if err := unix.Setrlimit(int(l.Resource), limit); err != nil {
			return fmt.Errorf("set the limit %s to %d:%d: %w", l.Name, l.Soft, l.Hard, err)
		}
	}
	return nil
}

// resign gives up what a step must not have: with CAP_SYS_CHROOT it could leave its
// root, with the others look into Cairn.
func (s *server) resign(as account) error {
	allowed := s.allCaps & stepCaps() &^ (1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_MKNOD | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_SETPCAP)
	for n := range 64 {
		if bit := uint64(1) << n; s.allCaps&bit != 0 && allowed&bit == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil {
				return fmt.Errorf("drop capabilities: %w", err)
			}
		}
	}
	unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	groups := append(as.groups[:len(as.groups):len(as.groups)], 0) // never empty
	uid, gid := uintptr(as.uid), uintptr(as.gid)
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, uintptr(len(as.groups)), uintptr(unsafe.Pointer(&groups[0]))},
		{unix.SYS_SETRESGID, gid, gid, gid},
		{unix.SYS_SETRESUID, uid, uid, uid},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return fmt.Errorf("become user %d:%d: %w", as.uid, as.gid, errno)
		}
	}
	runtime.KeepAlive(groups)
	if as.uid != 0 {
		return nil
	}
	sets := [2]unix.CapUserData{
		{Effective: uint32(allowed), Permitted: uint32(allowed)},
		{Effective: uint32(allowed >> 32), Permitted: uint32(allowed >> 32)},
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&head, &sets[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// resetSignals takes back what the keeper and whoever started Cairn ignore.
func resetSignals() {
	var standard [4]uint64 // struct sigaction, of SIG_DFL
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&standard)), 0, 8, 0, 0)
		}
	}
}

// candidates are the files that the command may be, in the order of $PATH.
func (c *steps) candidates() (list []string) {
	name := c.req.Args[0]
	if strings.Contains(name, "/") {
		return []string{name}
	}
	for dir := range strings.SplitSeq(valueOf(c.environment(), "PATH"), ":") {
		if strings.HasPrefix(dir, "/") {
			list = append(list, strings.TrimRight(dir, "/")+"/"+name)
		}
	}
	if len(list) == 0 {
		list = []string{"/" + name + "/"} // an empty $PATH: not found
	}
	return list
}

// execute becomes the first candidate that there is, or tells of the most telling
// failure.
func execute(candidates, args, env []string) error {
	var denied *launch.Failure
	for _, path := range candidates {
		err := unix.Exec(path, args, env)
		errno, _ := errors.AsType[unix.Errno](err)
		f := &launch.Failure{Attempt: path, Exec: true, Errno: errno}
		if errno != unix.ENOENT && errno != unix.EACCES && errno != unix.ENOTDIR {
			return f
		}
		if denied == nil || denied.Errno != unix.EACCES {
			denied = f
		}
	}
	return denied
}
