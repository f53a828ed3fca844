package helper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names under which the processes of a step without namespaces are started: the
// keeper, which is all that the helper is elsewhere, for one step, and the step itself
// until it has become its command.
const (
	KeeperArgument = "cairn-keeper"
	StepArgument   = "cairn-step"
)

// lifeFD is the lock that a keeper holds, and its step until it has become its command:
// whoever gets it knows that no other process will come up in the tree but by those
// that are there.
const lifeFD = ControlFD + 1

// keeper runs one command in a plain tree by chroot(2). What other steps have mounted
// is laid into the tree and taken out again, and whatever the command leaves running
// is killed: it is a child of the keeper's then.
type keeper struct {
	req   *Request
	life  *os.File
	root  int
	aside string // a folder on the tree's file system
	undo  []func() error

	touched touched
}

// Keep serves the one request that comes on ControlFD, and ends.
func Keep() {
	var list []os.Signal
	for _, s := range ignored() {
		list = append(list, s)
	}
	signal.Ignore(list...)
	// For people who look: the program's own name would be that of a link.
	_ = os.WriteFile("/proc/self/comm", []byte(KeeperArgument), 0)
	unix.SetNonblock(ControlFD, true)
	conn := os.NewFile(ControlFD, "request")
	life := os.NewFile(lifeFD, "life")
	var req Request
	reply := Reply{}
	err := Receive(conn, &req)
	if err == nil {
		var status unix.WaitStatus
		status, reply.Touched, err = keep(&req, conn, life)
		reply.Status = int64(status)
	}
	if err != nil {
		reply.fail(err)
	}
	Send(conn, &reply)
	runtime.KeepAlive(life)
	os.Exit(0)
}

// fail puts an error into the reply.
func (r *Reply) fail(err error) {
	r.Error = err.Error()
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		r.Errno = int64(errno)
	}
}

func keep(req *Request, conn io.Reader, life *os.File) (status unix.WaitStatus, touched string, err error) {
	unix.Umask(0)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, "", fmt.Errorf("adopt what the command leaves: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, "", err
	}
	k := &keeper{req: req, life: life, aside: filepath.Dir(req.Root) + "/" + Aside}
	if k.root, err = unix.Open(req.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return 0, "", fmt.Errorf("open the tree: %w", err)
	}
	defer func() { err = errors.Join(err, k.restore()) }()
	if err := k.furnish(); err != nil {
		return 0, "", err
	}
	if req.MakeDir {
		if err := (&tree{req: req, root: k.root}).makeDir(); err != nil {
			return 0, "", err
		}
	}
	status, err = k.run(conn)
	return status, k.touched.String(), err
}

// run starts the command, waits for its end, and ends what it has left.
func (k *keeper) run(conn io.Reader) (unix.WaitStatus, error) {
	step, theirs, err := socketPair()
	if err != nil {
		return 0, err
	}
	defer step.Close()
	// Should the keeper be killed, the step is too, as long as it can't be known by its
	// root; the kernel looks at the thread.
	runtime.LockOSThread()
	child, err := os.StartProcess("/proc/self/exe", []string{StepArgument}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, theirs, k.life},
		Sys: &syscall.SysProcAttr{Setsid: !k.req.Interactive, Pdeathsig: syscall.SIGKILL},
	})
	theirs.Close()
	if err != nil {
		return 0, fmt.Errorf("start the step: %w", err)
	}
	defer sweep()
	var running process
	if running.pidfd, err = unix.PidfdOpen(child.Pid, 0); err != nil {
		return 0, err
	}
	go running.obey(conn)
	err = Send(step, k.req)
	var reply Reply
	if err == nil {
		// The step's end of the socket closes when it becomes the command.
		if err = Receive(step, &reply); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	status, waitErr := running.wait(child.Pid)
	switch {
	case reply.Error != "" && reply.Errno != 0:
		return 0, &remote{reply.Error, syscall.Errno(reply.Errno)}
	case reply.Error != "":
		return 0, errors.New(reply.Error)
	}
	return status, errors.Join(err, waitErr)
}

// remote is the error of another process; it keeps the number.
type remote struct {
	text  string
	errno syscall.Errno
}

func (e *remote) Error() string { return e.text }
func (e *remote) Unwrap() error { return e.errno }

func socketPair() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open a socket: %w", err)
	}
	return os.NewFile(uintptr(pair[0]), "step"), os.NewFile(uintptr(pair[1]), "step"), nil
}

// sweep kills what the command has left until there is none. Children of what is
// killed become this process's, so that all come up.
func sweep() {
	for {
		for _, pid := range childrenOf(os.Getpid()) {
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

// childrenOf lists a process's children, as the machine's /proc has them.
func childrenOf(parent int) (list []int) {
	for _, name := range processes() {
		pid, _ := strconv.Atoi(name)
		if p, _ := ParentOf(pid); p == parent {
			list = append(list, pid)
		}
	}
	return list
}

// ParentOf gives a process's parent and name; 0 when there is no such process.
func ParentOf(pid int) (parent int, name string) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, ""
	}
	// The name, in brackets, may hold anything.
	head, tail, ok := cutLast(string(text), ") ")
	fields := strings.Fields(tail)
	if !ok || len(fields) < 2 {
		return 0, ""
	}
	_, name, _ = strings.Cut(head, "(")
	parent, _ = strconv.Atoi(fields[1])
	return parent, name
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
