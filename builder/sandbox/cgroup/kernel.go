package cgroup

import (
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"

	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"golang.org/x/sys/unix"
)

// kernel has the operations of the kernel that the package uses. Tests replace them by a
// model.
type kernel struct {
	Caller
	proc   string // directory with the files about this process
	mkdir  func(dir string) error
	rmdir  func(dir string) error
	write  func(file, text string) error
	try    func(files []string) error // starts a process that enters a group
	parent func(pid int) int          // 0 if there is no such process
	alive  func(pid int) bool
}

func thisKernel(c Caller) *kernel {
	return &kernel{
		Caller: c, proc: "/proc/self",
		mkdir: func(dir string) error { return os.Mkdir(dir, 0o755) },
		rmdir: unix.Rmdir, write: write, try: runInGroup,
		parent: func(pid int) int {
			parent, _ := step.Parent(pid)
			return parent
		},
		alive: func(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) },
	}
}

// write writes to an existing file in a single system call.
func write(file, text string) error {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(text))
		unix.Close(fd)
	}
	if err != nil {
		return &os.PathError{Op: "write", Path: file, Err: err}
	}
	return nil
}

// runInGroup starts a process that enters a group and exits.
func runInGroup(files []string) error {
	p := new(launch.Program)
	for _, file := range files {
		fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: file, Err: err}
		}
		defer unix.Close(fd)
		p.Do("enter the cgroup "+filepath.Dir(file), unix.SYS_WRITE, uintptr(fd), p.String("0"), 1)
	}
	child, err := p.Start(0)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		if _, began := errors.AsType[*launch.Failure](err); !began {
			return forkIntoGroup(files)
		}
	}
	if err != nil {
		return err
	}
	defer unix.Close(child.PIDFD)
	for {
		if _, err := unix.Wait4(child.PID, nil, 0, nil); err != unix.EINTR {
			return err
		}
	}
}

// forkIntoGroup is for system call filters that refuse clone3, like those of pods. It
// starts a step process, which waits for a request, moves it into the group, and kills it.
func forkIntoGroup(files []string) error {
	request, ours, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("open a pipe: %w", err)
	}
	defer ours.Close()
	child, err := os.StartProcess("/proc/self/exe", []string{wire.StepArgument}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{nil, nil, nil, request},
	})
	request.Close()
	if err != nil {
		return fmt.Errorf("start a process for the cgroup: %w", err)
	}
	for _, file := range files {
		if err == nil {
			err = write(file, strconv.Itoa(child.Pid))
		}
	}
	_ = child.Kill() // the memory limit may have killed it
	_, waitErr := child.Wait()
	return errors.Join(err, waitErr)
}

// processes returns the process ids of a cgroup. The id is 0 for a process of another
// PID namespace.
func (k *kernel) processes(dir string) (list []int) {
	text, _ := os.ReadFile(dir + "/cgroup.procs")
	for _, word := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// foreign returns the processes that do not belong to the program.
func (k *kernel) foreign(pids []int) (list []int) {
	for _, pid := range pids {
		if !k.ownsProcess(pid) {
			list = append(list, pid)
		}
	}
	return list
}

// ownsProcess reports whether a process belongs to the program or has exited.
func (k *kernel) ownsProcess(pid int) bool {
	if slices.Contains(k.PIDs, pid) {
		return true
	}
	for p := pid; p > 0; p = k.parent(p) {
		if p == os.Getpid() {
			return true
		}
	}
	return pid > 0 && !k.alive(pid)
}
