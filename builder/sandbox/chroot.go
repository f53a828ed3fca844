package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/cairn-build/cairn/builder/sandbox/helper"
	"golang.org/x/sys/unix"
)

// runByChroot runs a command without namespaces and mounts, through a keeper of its
// own. Should this process die, the kernel kills the keeper; what the command has
// started is killed by SweepStrays then.
func runByChroot(ctx context.Context, req *helper.Request, std [3]*os.File, signals <-chan os.Signal) (helper.Reply, error) {
	var reply helper.Reply
	switch {
	case req.NoNetwork:
		return reply, errors.New("without the right to make namespaces a command cannot be kept from the network (--network=none)")
	case req.Insecure:
		return reply, errors.New("a command cannot be given rights (security=insecure) that the process itself does not have")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return reply, fmt.Errorf("open a socket: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "request")
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return reply, err
	}
	conn := os.NewFile(uintptr(pair[0]), "request")
	defer conn.Close()
	started, gone := make(chan error), make(chan struct{})
	go liveKeeper([]*os.File{std[0], std[1], std[2], theirs}, started, gone)
	err = <-started
	theirs.Close()
	if err != nil {
		return reply, fmt.Errorf("start the step's keeper: %w", err)
	}
	done := make(chan struct{})
	defer close(done)
	go forward(ctx, conn, signals, done)
	err = helper.Send(conn, req)
	if err == nil {
		err = helper.Receive(conn, &reply)
	}
	<-gone
	if err != nil {
		return reply, fmt.Errorf("the step's keeper has ended: %w", err)
	}
	return reply, nil
}

// liveKeeper starts a keeper and waits for its end on one thread: the kernel kills the
// keeper when the thread that started it ends.
func liveKeeper(files []*os.File, started chan<- error, gone chan<- struct{}) {
	runtime.LockOSThread()
	defer close(gone)
	child, err := os.StartProcess("/proc/self/exe", []string{helper.KeeperArgument}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: files,
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	started <- err
	if err == nil {
		child.Wait()
	}
}

// SweepStrays kills what steps have left that ran by chroot below a folder, and whose
// keeper was killed. Call it before the store there is opened.
func SweepStrays(folder string) error {
	folder, err := filepath.EvalSymlinks(folder)
	if err == nil {
		folder, err = filepath.Abs(folder)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	roots, err := filepath.Glob("/proc/[0-9]*/root")
	if err != nil {
		return err
	}
	for _, link := range roots {
		root, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(root, folder+"/trees/") {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if !kept(pid) {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	return nil
}

// kept tells whether a process descends from a keeper.
func kept(pid int) bool {
	for pid > 1 {
		parent, name := helper.ParentOf(pid)
		if name == helper.KeeperArgument {
			return true
		}
		pid = parent
	}
	return false
}
