// Package launch starts a process that performs a list of system calls and then
// becomes another program.
//
// A Go program cannot fork and go on in Go: the child would have one thread of a
// runtime that expects several. The usual way out is to start the own binary once
// more, which costs a millisecond or two of start-up. Here the parent writes down
// what the child has to do, as numbers, and a few lines of assembly in the child work
// through the list on the parent's memory (as vfork does) until an execve succeeds.
// The child touches no stack and runs no Go.
//
// The list has no variables, so the caller has to know which descriptors the calls
// will return: the first calls put what is needed at the lowest numbers and close the
// rest, and from then on the kernel returns the lowest free one.
package launch

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the child does when a call fails.
const (
	stop = iota // end with status 127
	goOn        // as if nothing had happened
	next        // go on when a file is missing or forbidden, else end: for execve
)

// call is one system call. The assembly knows the offsets.
type call struct {
	number uintptr
	args   [6]uintptr
	onFail uintptr
	result uintptr // set in the child, read by the parent
}

// Program is what a child does before it becomes another program. A Program is
// started at most once.
type Program struct {
	calls []call
	names []string // what each call attempts, for errors
	keep  []any    // what the arguments point to
}

// Do adds a call that must succeed. attempt says in an error what it was for.
func (p *Program) Do(attempt string, number uintptr, args ...uintptr) {
	p.add(stop, attempt, number, args)
}

// Try adds a call that may fail.
func (p *Program) Try(number uintptr, args ...uintptr) {
	p.add(goOn, "", number, args)
}

// Exec adds an execve. When path is missing or forbidden the next call follows.
func (p *Program) Exec(path string, argv, env []string) {
	p.add(next, path, unix.SYS_EXECVE, []uintptr{p.String(path), p.Strings(argv), p.Strings(env)})
}

// ExecSame adds an execve with the arguments and environment of the one before.
func (p *Program) ExecSame(path string) {
	last := p.calls[len(p.calls)-1].args
	p.add(next, path, unix.SYS_EXECVE, []uintptr{p.String(path), last[1], last[2]})
}

func (p *Program) add(onFail uintptr, attempt string, number uintptr, args []uintptr) {
	c := call{number: number, onFail: onFail, result: ^uintptr(0)}
	copy(c.args[:], args)
	p.calls = append(p.calls, c)
	p.names = append(p.names, attempt)
}

// String keeps a C string for the child and returns its address.
func (p *Program) String(s string) uintptr {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return Pointer(p, &b[0])
}

// Strings keeps a null-terminated array of C strings, as argv is.
func (p *Program) Strings(list []string) uintptr {
	array := make([]uintptr, len(list)+1)
	for i, s := range list {
		array[i] = p.String(s)
	}
	return Pointer(p, &array[0])
}

// Pointer keeps what v points to until the child has been started.
func Pointer[T any](p *Program, v *T) uintptr {
	p.keep = append(p.keep, v)
	return uintptr(unsafe.Pointer(v))
}

// A Failure is a call of the child that ended its program.
type Failure struct {
	Attempt string
	Exec    bool // it was an execve
	Errno   syscall.Errno
}

func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Attempt, f.Errno) }

// Unwrap returns the error number.
func (f *Failure) Unwrap() error { return f.Errno }

// Child is a started process.
type Child struct {
	PID   int
	PIDFD int
}

// cloneArgs is the kernel's struct clone_args, with names for what is used.
type cloneArgs struct {
	flags, pidfd uint64
	_            [2]uint64 // where to store thread ids
	exitSignal   uint64
	_            [6]uint64 // stack, thread-local storage, chosen ids, cgroup
}

// clearHandlers is CLONE_CLEAR_SIGHAND: no Go handler may run in the child.
const clearHandlers = 1 << 32

// Start runs the program in a child of the calling thread, made with further clone
// flags, and returns once it has become another program. When it could not, the child
// is gone and the error is a *Failure, for an execve the most telling one.
func (p *Program) Start(flags uint64) (Child, error) {
	child, err := p.spawn(flags | unix.CLONE_VFORK)
	if err != nil {
		return child, err
	}
	if failure := p.failure(); failure != nil {
		child.reap()
		return Child{}, failure
	}
	return child, nil
}

// StartAsync is Start without waiting: the calls may wait for the parent. done reports
// how it went; it must be called when the child has ended or become another program,
// not before.
func (p *Program) StartAsync(flags uint64) (child Child, done func() error, err error) {
	child, err = p.spawn(flags)
	return child, func() error {
		if failure := p.failure(); failure != nil {
			return failure
		}
		return nil
	}, err
}

func (p *Program) spawn(flags uint64) (Child, error) {
	p.add(stop, "exit", unix.SYS_EXIT_GROUP, []uintptr{127})
	pidfd := int32(-1)
	args := cloneArgs{
		flags:      flags | unix.CLONE_VM | unix.CLONE_PIDFD | clearHandlers,
		pidfd:      uint64(uintptr(unsafe.Pointer(&pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	// The lock keeps descriptors that are not yet close-on-exec out of the child.
	syscall.ForkLock.Lock()
	pid, errno := clone(&args, unsafe.Sizeof(args), &p.calls[0])
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(p)
	if errno != 0 {
		return Child{}, fmt.Errorf("clone: %w", errno)
	}
	return Child{PID: int(pid), PIDFD: int(pidfd)}, nil
}

// failure finds out from the results how far the child came. A successful execve
// leaves no result; its place still says that it was not done.
func (p *Program) failure() *Failure {
	var denied *Failure
	for i := range p.calls {
		c := &p.calls[i]
		errno := syscall.Errno(-c.result)
		switch failed := c.result > ^uintptr(4095); {
		case c.number == unix.SYS_EXECVE && c.result == ^uintptr(0):
			return nil
		case c.number == unix.SYS_EXIT_GROUP:
			return denied
		case !failed || c.onFail == goOn:
		case c.onFail == next && tolerated(errno):
			// A file that is there but forbidden says more than one that is missing.
			if f := (&Failure{p.names[i], true, errno}); denied == nil || denied.Errno != unix.EACCES {
				denied = f
			}
		default:
			return &Failure{p.names[i], c.onFail == next, errno}
		}
	}
	return denied
}

// tolerated are the errors after which a search of $PATH goes on; the assembly has
// the same list.
func tolerated(e syscall.Errno) bool {
	return e == unix.ENOENT || e == unix.EACCES || e == unix.ENOTDIR
}

func (c Child) reap() {
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(c.PID, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	unix.Close(c.PIDFD)
}

//go:noescape
func clone(args *cloneArgs, size uintptr, first *call) (pid uintptr, errno syscall.Errno)
