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
// started is killed by SweepStrays then. Should the keeper die, this process does that.
func runByChroot(ctx context.Context, req *helper.Request, std [3]*os.File, signals <-chan os.Signal) (helper.Reply, error) {
	var reply helper.Reply
	switch {
	case req.NoNetwork:
		return reply, errors.New("without the right to make namespaces a command cannot be kept from the network (--network=none)")
	case req.Insecure:
		return reply, errors.New("a command cannot be given rights (security=insecure) that the process itself does not have")
	}
	held, err := hold(filepath.Dir(req.Root))
	if err != nil {
		return reply, err
	}
	defer held.Close()
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
		killIn(req.Root)
		return reply, errors.Join(fmt.Errorf("the step's keeper has ended: %w", err), helper.TakeBack(filepath.Dir(req.Root)))
	}
	return reply, nil
}

// hold makes the folder in which a keeper lays aside what it takes from the tree, and
// locks it, which tells others that this process lives. Only the keeper removes it.
func hold(container string) (*os.File, error) {
	aside := container + "/" + helper.Aside
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(aside)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
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
// keeper was killed, and takes back what was moved into their trees. Call it before the
// store there is opened.
func SweepStrays(folder string) error {
	folder, err := filepath.EvalSymlinks(folder)
	if err == nil {
		folder, err = filepath.Abs(folder)
	}
	var trees *os.File
	if err == nil {
		trees, err = os.Open(folder + "/trees")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer trees.Close()
	// One at a time: whoever comes next opens the store when all is back in its place.
	if err := unix.Flock(int(trees.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	killIn(trees.Name())
	list, err := filepath.Glob(trees.Name() + "/*/*/" + helper.Aside)
	for _, aside := range list {
		err = errors.Join(err, takeBack(aside))
	}
	return err
}

// takeBack takes back what was moved into a tree, unless somebody lives who will.
func takeBack(aside string) error {
	f, err := os.Open(aside)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	return helper.TakeBack(filepath.Dir(aside))
}

// killIn kills the processes whose root is at or below a folder, and which have no
// keeper, until no new one comes up.
func killIn(folder string) {
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folder = real
	}
	killed := map[int]bool{}
	for again := true; again; {
		again = false
		roots, _ := filepath.Glob("/proc/[0-9]*/root")
		for _, link := range roots {
			root, err := os.Readlink(link)
			if err != nil || !strings.HasPrefix(root+"/", folder+"/") {
				continue
			}
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			if !killed[pid] && !kept(pid) {
				unix.Kill(pid, unix.SIGKILL)
				killed[pid], again = true, true
			}
		}
	}
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
