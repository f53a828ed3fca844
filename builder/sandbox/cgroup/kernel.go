package cgroup

import (
	"errors"
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
