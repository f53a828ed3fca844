package runtime

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

// perform runs one request on its own thread. The thread and its namespaces end with the
// goroutine. It returns the end of the command and, for a plain tree, the paths that
// the runtime itself changed.
func (s *server) perform(req *wire.Request, files [3]int, conn io.Reader) (wire.End, string, error) {
	runtime.LockOSThread() // never unlocked, so that the thread ends
	if err := enterNamespaces(req.NoNetwork); err != nil {
		return wire.End{}, "", err
	}
	if req.Probe != "" {
		status, err := s.probe(req)
		return wire.End{Status: int64(status)}, "", err
	}
	t := s.newTree(req)
	defer t.removeTemporary()
	defer s.leaveMountNamespace()
	defer t.close()
	if err := t.mount(); err != nil {
		return wire.End{}, "", err
	}
	end, err := s.start(t, files, conn)
	return end, t.plain.Touched(), err
}

// enterNamespaces moves the thread into new namespaces. The PID namespace is made
// with the command.
func enterNamespaces(noNetwork bool) error {
	flags := unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if noNetwork {
		flags |= unix.CLONE_NEWNET
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	unix.Umask(0)
	if noNetwork {
		return enableLoopback()
	}
	return nil
}

// leaveMountNamespace moves the thread back to the mount namespace of the process. This
// ends the step's mount namespace and unmounts its overlay, so that the upper directory
// can be used.
func (s *server) leaveMountNamespace() {
	unix.Setns(s.mountNS, unix.CLONE_NEWNS)
}

func enableLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("enable the loopback device: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("enable the loopback device: %w", err)
	}
	return nil
}

// start starts the command and waits for it to end.
func (s *server) start(t *tree, files [3]int, conn io.Reader) (wire.End, error) {
	account, err := step.LookUp(t.root, t.req.User, t.req.Groups...)
	if err != nil {
		return wire.End{}, err
	}
	if len(t.req.Groups) > 0 && !s.setsGroups {
		return wire.End{}, errors.New("--group-add: the user namespace has a single group, and the kernel lets it set no others (to map more ids, see cairn info)")
	}
	if t.req.MakeDir {
		if err := step.MakeDir(t.root, t.req.Dir); err != nil {
			return wire.End{}, err
		}
	}
	if err := unix.Sethostname([]byte(t.req.Hostname)); err != nil {
		return wire.End{}, fmt.Errorf("set the host name %q: %w", t.req.Hostname, err)
	}
	stop, err := t.nameStreams(files, account)
	if err != nil {
		return wire.End{}, fmt.Errorf("prepare the standard streams: %w", err)
	}
	defer stop()
	unix.Umask(0o022)
	c := child{Program: new(launch.Program), s: s, t: t, req: t.req, files: files, account: account}
	if t.req.Terminal {
		if c.named, err = t.nameTerminal(files[0]); err != nil {
			return wire.End{}, fmt.Errorf("prepare the terminal: %w", err)
		}
	}
	if s.outerProc {
		// Steps that used the machine's /proc at the same time would see each other.
		s.outerProcMu.Lock()
		defer s.outerProcMu.Unlock()
		c.hidden = step.Processes()
	}
	if c.cgroups, err = step.OpenCgroups(t.req.CgroupFiles); err != nil {
		return wire.End{}, err
	}
	started, err := c.program().Start(unix.CLONE_NEWPID)
	for _, fd := range c.cgroups {
		unix.Close(fd)
	}
	if err != nil {
		return wire.End{}, step.ExplainExec(t.root, t.req, err)
	}
	process := step.NewProcess(started.PID, started.PIDFD)
	go process.ForwardSignals(conn)
	return process.Wait()
}
