package sandbox

import (
	"github.com/cairn-build/cairn/builder/sandbox/runtime/chroot"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"

	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// runByChroot runs a command without namespaces and mounts, through a supervisor process.
// If this process dies, the kernel kills the supervisor, and the next call of
// RecoverChroot kills the processes of the command. If the supervisor dies, this process
// does that.
func runByChroot(ctx context.Context, req *wire.Request, std [3]*os.File, signals <-chan os.Signal) (wire.Reply, error) {
	var none wire.Reply
	switch {
	case req.NoNetwork:
		return none, errors.New("--network=none is not available in the isolation mode chroot: the process may not make namespaces")
	case req.Insecure:
		return none, errors.New("security=insecure is not available in the isolation mode chroot: the process lacks the privileges itself")
	}
	container := filepath.Dir(req.Root)
	aside, err := lockAsideDir(container)
	if err != nil {
		return none, err
	}
	defer aside.Close()
	life, err := lock(container)
	if err != nil {
		return none, err
	}
	defer life.Close()
	conn, theirs, err := connect()
	if err != nil {
		return none, err
	}
	defer conn.Close()
	started, gone := make(chan error), make(chan struct{})
	go superviseLive([]*os.File{std[0], std[1], std[2], theirs, life}, started, gone)
	err = <-started
	theirs.Close()
	life.Close() // the supervisor has it, and the step until it executes the command
	if err != nil {
		return none, fmt.Errorf("start the supervisor of the step: %w", err)
	}
	var reply wire.Reply
	err = exchange(ctx, conn, req, &reply, signals)
	<-gone
	if err != nil {
		return reply, errors.Join(fmt.Errorf("run a command: its supervisor has ended: %w", err), cleanUp(container))
	}
	return reply, nil
}

// lockAsideDir makes and locks the folder of entries that a supervisor takes out of the
// tree. The lock shows other processes that this one is alive. The supervisor removes the
// folder.
func lockAsideDir(container string) (*os.File, error) {
	aside := container + "/" + chroot.AsideDir
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return nil, err
	}
	return lock(aside)
}

// lock waits for the lock of a folder. The lock is released when no process has the
// returned file open.
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

// superviseLive starts a supervisor and waits for its end. It does both on one thread,
// because the kernel kills the supervisor when the thread that has started it ends.
func superviseLive(files []*os.File, started chan<- error, gone chan<- struct{}) {
	goruntime.LockOSThread()
	defer close(gone)
	child, err := os.StartProcess("/proc/self/exe", []string{wire.SupervisorArgument}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: files,
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	started <- err
	if err == nil {
		child.Wait()
	}
}

// RecoverChroot cleans up after builds in the isolation mode Chroot that were killed. In
// the store in the given folder it kills processes of their steps, and moves directories
// back that were moved into trees. It must be called before the store is opened.
func RecoverChroot(folder string) error {
	folder, err := filepath.EvalSymlinks(folder)
	if err == nil {
		folder, err = filepath.Abs(folder)
	}
	var trees *os.File // locked, so that a concurrent call returns when this one is done
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
	list, err := filepath.Glob(folder + "/trees/*/*/" + chroot.AsideDir)
	for _, aside := range list {
		err = errors.Join(err, cleanUpUnlocked(aside))
	}
	killIn(folder + "/trash")
	return err
}

// cleanUpUnlocked cleans up in one tree, unless the process that runs a command in it is
// alive.
func cleanUpUnlocked(aside string) error {
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
	return cleanUp(filepath.Dir(aside))
}

// cleanUp does the work of a supervisor that was killed: it kills the processes of the
// step, and moves directories back that were moved into the tree.
func cleanUp(container string) error {
	// A killed supervisor may still be running for a moment, and so may its step. They
	// could start processes or move directories until they release this lock.
	life, err := lock(container)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer life.Close()
	killIn(container)
	return chroot.Restore(container)
}

// killIn kills the processes whose root directory is at or below a folder, until there
// are no new ones.
func killIn(folder string) {
	if real, err := filepath.EvalSymlinks(folder); err == nil {
		folder = real
	}
	seen := map[string]bool{} // killed or not readable
	for quiet := 0; quiet < quietPasses; quiet++ {
		again := false
		roots, _ := filepath.Glob("/proc/[0-9]*/root")
		for _, link := range roots {
			root, err := os.Readlink(link)
			within := err == nil && strings.HasPrefix(root+"/", folder+"/")
			if seen[link] || err == nil && !within {
				continue
			}
			// A process that has ended may have started another one since the list was made.
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

// quietPasses is the maximum number of passes of killIn without a process to kill. Each
// process that ends by itself causes another pass, and a busy machine always has some.
const quietPasses = 20
