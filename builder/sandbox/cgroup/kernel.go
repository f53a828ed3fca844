package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox/helper"
	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"golang.org/x/sys/unix"
)

// kernel is what the package asks of the kernel. Tests have a model of it, in a folder.
type kernel struct {
	Caller
	proc   string // the folder of files about this process
	mkdir  func(dir string) error
	rmdir  func(dir string) error
	write  func(file, text string) error
	try    func(files []string) error // lets a process enter a group
	parent func(pid int) int          // 0 for one that is not there
	alive  func(pid int) bool
}

func thisKernel(c Caller) *kernel {
	return &kernel{
		Caller: c, proc: "/proc/self",
		mkdir: func(dir string) error { return os.Mkdir(dir, 0o755) },
		rmdir: unix.Rmdir, write: write, try: enter,
		parent: func(pid int) int {
			parent, _ := helper.ParentOf(pid)
			return parent
		},
		alive: func(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.ESRCH) },
	}
}

// write writes to a file that is there, in one call, as the kernel wants it.
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

// enter lets a process enter a group, and end.
func enter(files []string) error {
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
			return enterByFork(files)
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

// enterByFork is enter where a filter refuses clone3, as those of pods do. The process is
// a step without a request, which it waits for; so this one puts it into the group.
func enterByFork(files []string) error {
	request, ours, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("open a pipe: %w", err)
	}
	defer ours.Close()
	child, err := os.StartProcess("/proc/self/exe", []string{helper.StepArgument}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{nil, nil, nil, request},
	})
	request.Close()
	if err != nil {
		return fmt.Errorf("start a process to be limited: %w", err)
	}
	for _, file := range files {
		if err == nil {
			err = write(file, strconv.Itoa(child.Pid))
		}
	}
	_ = child.Kill() // it may have ended for want of memory
	_, waitErr := child.Wait()
	return errors.Join(err, waitErr)
}

// processes lists those of a cgroup; 0 is one that this process does not see.
func (k *kernel) processes(dir string) (list []int) {
	text, _ := os.ReadFile(dir + "/cgroup.procs")
	for _, word := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// strangers are the processes that are not the program's own.
func (k *kernel) strangers(pids []int) (list []int) {
	for _, pid := range pids {
		if !k.ownsProcess(pid) {
			list = append(list, pid)
		}
	}
	return list
}

func (k *kernel) ownsProcess(pid int) bool {
	if slices.Contains(k.PIDs, pid) {
		return true
	}
	for p := pid; p > 0; p = k.parent(p) {
		if p == os.Getpid() {
			return true
		}
	}
	// One that has ended meanwhile is nobody's.
	return pid > 0 && !k.alive(pid)
}
