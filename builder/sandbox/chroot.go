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
	container := filepath.Dir(req.Root)
	held, err := hold(container)
	if err != nil {
		return reply, err
	}
	defer held.Close()
	life, err := lock(container)
	if err != nil {
		return reply, err
	}
	defer life.Close()
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
	go liveKeeper([]*os.File{std[0], std[1], std[2], theirs, life}, started, gone)
	err = <-started
	theirs.Close()
	life.Close() // the keeper's, and the step's until it is the command
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
		return reply, errors.Join(fmt.Errorf("the step's keeper has ended: %w", err), inherit(container))
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
	return lock(aside)
}

// lock waits for the lock of a folder, which goes when no process has the file open.
func lock(folder string) (*os.File, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", folder, err), f.Close())
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
	var trees *os.File // one sweeps at a time: whoever comes next opens the store when all is back in its place
	if err == nil {
		trees, err = lock(folder + "/trees")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer trees.Close()
	list, err := filepath.Glob(folder + "/trees/*/*/" + helper.Aside)
	for _, aside := range list {
		err = errors.Join(err, sweep(aside))
	}
	killIn(folder + "/trash") // nobody runs anything there
	return err
}

// sweep does that in one tree, unless somebody lives who will.
func sweep(aside string) error {
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
	return inherit(filepath.Dir(aside))
}

// inherit does what a keeper that was killed has left undone: it kills what the step has
// started, and takes back what was moved into the tree.
func inherit(container string) error {
	// A keeper may be dead for its builder only, and go on for a moment: its step could
	// start more, and it could move more itself.
	life, err := lock(container)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer life.Close()
	killIn(container)
	return helper.TakeBack(container)
}

// killIn kills the processes whose root is at or below a folder, until no new one comes
// up.
func killIn(folder string) {
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folder = real
	}
	seen := map[string]bool{} // killed, or not to be looked into
	for quiet := 0; quiet < quietPasses; quiet++ {
		again := false
		roots, _ := filepath.Glob("/proc/[0-9]*/root")
		for _, link := range roots {
			root, err := os.Readlink(link)
			within := err == nil && strings.HasPrefix(root+"/", folder+"/")
			if seen[link] || err == nil && !within {
				continue
			}
			// One that is gone by now may have started another after the list was made.
			seen[link], again = true, true
			if within {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
				unix.Kill(pid, unix.SIGKILL)
				quiet = 0
			}
		}
		if !again {
			return
		}
	}
}

// quietPasses bounds how often killIn looks again for processes that ended by themselves:
// on a busy machine there is always one.
const quietPasses = 20
