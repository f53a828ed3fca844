// Package launch starts a process that performs a list of system calls and then executes
// another program.
//
// A Go program cannot fork and continue in Go: the child would have one thread of a
// runtime that expects several. The usual solution is to execute the same binary again,
// which takes a millisecond or two. Here the parent stores the system calls as numbers,
// and a few lines of assembly in the child perform them in the parent's memory (like
// vfork) until an execve succeeds. The child uses no stack and runs no Go code.
//
// The list has no variables, so the caller has to know the descriptors that the calls
// will return. The first calls move the needed descriptors to the lowest numbers and
// close all others. From then on the kernel returns the lowest free number.
package launch

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Actions of the child if a call fails.
const (
	stop   = iota // exit with status 127
	ignore        // perform the next call
	next          // for execve: perform the next call if the error is tolerated, else exit
)

// call is one system call. The assembly code uses the offsets of the fields.
type call struct {
	number uintptr
	args   [6]uintptr
	onFail uintptr
	result uintptr // set in the child, read by the parent
}

// Program is a list of system calls for a child. It is started at most once.
type Program struct {
	calls []call
	names []string // the purpose of each call, for errors
	keep  []any    // values that the arguments point to
}

// Do adds a call that must succeed. attempt is its purpose, for the error.
func (p *Program) Do(attempt string, number uintptr, args ...uintptr) {
	p.add(stop, attempt, number, args)
}

// Try adds a call that may fail.
func (p *Program) Try(number uintptr, args ...uintptr) {
	p.add(ignore, "", number, args)
}

// Exec adds an execve. If the file is missing or may not be executed, the next call is
// performed.
func (p *Program) Exec(path string, argv, env []string) {
	p.add(next, path, unix.SYS_EXECVE, []uintptr{p.String(path), p.Strings(argv), p.Strings(env)})
}

// ExecSame adds an execve with the arguments and environment of the previous one.
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

// String returns the address of a C string, which is kept until the child has started.
func (p *Program) String(s string) uintptr {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return Pointer(p, &b[0])
}

// Strings returns the address of a null-terminated array of C strings, such as argv.
func (p *Program) Strings(list []string) uintptr {
	array := make([]uintptr, len(list)+1)
	for i, s := range list {
		array[i] = p.String(s)
	}
	return Pointer(p, &array[0])
}

// Pointer returns the address in v, and keeps the value until the child has started. The
// value is on the heap because p refers to it: a value on the stack of a goroutine
// moves when the stack grows, and an address that is only a number stays behind.
func Pointer[T any](p *Program, v *T) uintptr {
	p.keep = append(p.keep, v)
	return uintptr(unsafe.Pointer(v))
}

// Failure is the error of a call that ended the child.
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

// cloneArgs is struct clone_args of the kernel, with names for the used fields.
type cloneArgs struct {
	flags, pidfd uint64
	_            [2]uint64 // where to store thread ids
	exitSignal   uint64
	_            [6]uint64 // stack, thread-local storage, chosen ids, cgroup
}

// clearHandlers is CLONE_CLEAR_SIGHAND: no Go handler may run in the child.
const clearHandlers = 1 << 32

// Start runs the program in a child of the calling thread, with additional clone flags. It
// returns when the child has executed a program. If the child has failed, the error is a
// *Failure, and the child has been waited for.
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

// StartAsync is like Start and does not wait, so that calls of the child can wait for the
// parent. The function done returns the error of the child. It must not be called before
// the child has ended or executed a program.
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
	pidfd := new(int32)
	args := cloneArgs{
		flags:      flags | unix.CLONE_VM | unix.CLONE_PIDFD | clearHandlers,
		pidfd:      uint64(Pointer(p, pidfd)),
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
	return Child{PID: int(pid), PIDFD: int(*pidfd)}, nil
}

// failure finds the call that failed, using the results. A successful execve does not set
// its result.
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
		case !failed || c.onFail == ignore:
		case c.onFail == next && tolerated(errno):
			// Prefer the error of a file that exists to that of a missing one.
			if f := (&Failure{p.names[i], true, errno}); denied == nil || denied.Errno != unix.EACCES {
				denied = f
			}
		default:
			return &Failure{p.names[i], c.onFail == next, errno}
		}
	}
	return denied
}

// tolerated reports whether a search of $PATH continues after an error. The assembly code
// has the same list.
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
