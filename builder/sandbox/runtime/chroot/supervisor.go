// Package chroot runs a command in a plain tree by chroot(2), for root without the right
// to mount.
//
// Each command has two processes, which are the program itself under another name. The
// supervisor ([Supervise]) puts files into the tree in place of mounts, starts the step,
// forwards signals to it, kills every process that the command leaves, and takes the
// files out again. The step ([Become]) enters the tree, drops its privileges and executes
// the command.
//
// There is no PID namespace, so the kernel does not end the other processes. Instead the
// supervisor is the subreaper of the command's descendants, and the kernel kills it with
// its parent. If it is killed, [Restore] moves directories back that it had moved into the
// tree.
package chroot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/plaintree"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

// supervisor runs the command of one request.
type supervisor struct {
	req     *wire.Request
	account step.Account
	life    *os.File
	aside   string      // a folder on the file system of the tree
	pipes   [3]*os.File // written by the command in place of its own streams
	plaintree.Editor
}

// Supervise serves the request that comes on wire.ControlFD, and exits.
func Supervise() {
	step.IgnoreSignals()
	// Otherwise the kernel would show the process as "exe", after /proc/self/exe.
	_ = os.WriteFile("/proc/self/comm", []byte(wire.SupervisorArgument), 0)
	unix.SetNonblock(wire.ControlFD, true)
	conn := os.NewFile(wire.ControlFD, "request")
	life := os.NewFile(wire.LifeFD, "life")
	var req wire.Request
	reply := wire.Reply{}
	err := wire.Receive(conn, &req)
	if err == nil {
		reply.End, reply.Touched, err = supervise(&req, conn, life)
	}
	if err != nil {
		reply.SetErr(err)
	}
	wire.Send(conn, &reply)
	runtime.KeepAlive(life)
	os.Exit(0)
}

// supervise runs the command of a request. It returns the touched paths of the tree too.
func supervise(req *wire.Request, conn io.Reader, life *os.File) (end wire.End, touched string, err error) {
	unix.Umask(0)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return wire.End{}, "", fmt.Errorf("become the subreaper of the command: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return wire.End{}, "", err
	}
	s := &supervisor{req: req, life: life, aside: filepath.Dir(req.Root) + "/" + AsideDir}
	if s.Root, err = unix.Open(req.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return wire.End{}, "", fmt.Errorf("open the tree: %w", err)
	}
	defer func() { err = errors.Join(err, s.Undo(), os.RemoveAll(s.aside)) }()
	// If this fails, the step finds the user in a file that is mounted, or has the error.
	s.account, _ = step.LookUp(s.Root, req.User, req.Groups...)
	if err := s.populate(); err != nil {
		return wire.End{}, "", err
	}
	if req.MakeDir {
		if err := step.MakeDir(s.Root, req.Dir); err != nil {
			return wire.End{}, "", err
		}
	}
	end, err = s.run(conn)
	return end, s.Touched(), err
}

// run starts the step, waits for the command to end, and kills the processes that it has
// left.
func (s *supervisor) run(conn io.Reader) (wire.End, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return wire.End{}, err
	}
	defer ours.Close()
	// The kernel kills the step with the thread that has started it. Once the step has
	// entered the tree, it can also be found by its root directory.
	runtime.LockOSThread()
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr, theirs, s.life}
	for n, pipe := range s.pipes {
		if pipe != nil {
			files[n] = pipe
		}
	}
	child, err := os.StartProcess("/proc/self/exe", []string{wire.StepArgument}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: !s.req.Interactive || s.req.Terminal, Setctty: s.req.Terminal, Pdeathsig: syscall.SIGKILL},
	})
	theirs.Close()
	if err != nil {
		return wire.End{}, fmt.Errorf("start the step: %w", err)
	}
	defer killChildren()
	pidfd, err := unix.PidfdOpen(child.Pid, 0)
	if err != nil {
		return wire.End{}, err
	}
	process := step.NewProcess(child.Pid, pidfd)
	go process.ForwardSignals(conn)
	err = wire.Send(ours, s.req)
	var reply wire.Reply
	if err == nil {
		// The stream ends without a reply when the step executes the command.
		if err = wire.Receive(ours, &reply); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	end, waitErr := process.Wait()
	if err := reply.Err(); err != nil {
		return wire.End{}, err
	}
	return end, errors.Join(err, waitErr)
}

func socketPair() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open a socket: %w", err)
	}
	return os.NewFile(uintptr(pair[0]), "step"), os.NewFile(uintptr(pair[1]), "step"), nil
}

// killChildren kills the children of this process until there are none. Children of a
// killed process become children of this one.
func killChildren() {
	for {
		for _, pid := range step.Children(os.Getpid()) {
			unix.Kill(pid, unix.SIGKILL)
		}
		var status unix.WaitStatus
		switch _, err := unix.Wait4(-1, &status, 0, nil); err {
		case nil, unix.EINTR:
		default:
			return // ECHILD: no child is left
		}
	}
}
