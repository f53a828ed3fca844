package helper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"golang.org/x/sys/unix"
)

// perform runs one request on a thread that ends with it, together with the
// namespaces that the thread entered.
func (s *server) perform(req *Request, files [3]int, conn io.Reader) (unix.WaitStatus, string, error) {
	// Never unlocked: the runtime ends the thread with its goroutine.
	runtime.LockOSThread()
	if err := enter(req.NoNetwork); err != nil {
		return 0, "", err
	}
	if req.Probe != "" {
		status, err := s.probe(req)
		return status, "", err
	}
	t := s.newTree(req)
	defer t.sweep()
	defer s.leave()
	defer t.close()
	if err := t.mount(); err != nil {
		return 0, "", err
	}
	status, err := s.start(t, files, conn)
	return status, t.touched.String(), err
}

// enter gives the thread namespaces of its own. The process namespace follows with
// the command.
func enter(noNetwork bool) error {
	flags := unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if noNetwork {
		flags |= unix.CLONE_NEWNET
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	unix.Umask(0)
	if noNetwork {
		return loopbackUp()
	}
	return nil
}

// leave returns to the helper's mount namespace. With that the step's own ends, and
// its overlay is unmounted when this returns: the upper directory is free.
func (s *server) leave() {
	unix.Setns(s.mountNS, unix.CLONE_NEWNS)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}

// start starts the command and waits for its end.
func (s *server) start(t *tree, files [3]int, conn io.Reader) (unix.WaitStatus, error) {
	as, err := lookUp(t.root, t.req.User)
	if err != nil {
		return 0, err
	}
	if t.req.MakeDir {
		if err := t.makeDir(); err != nil {
			return 0, err
		}
	}
	if err := unix.Sethostname([]byte(t.req.Hostname)); err != nil {
		return 0, fmt.Errorf("set the host name %q: %w", t.req.Hostname, err)
	}
	unix.Umask(0o022)
	c := steps{Program: new(launch.Program), s: s, t: t, req: t.req, files: files, as: as}
	if s.outerProc {
		// In the machine's /proc each step would see the others: they take turns.
		s.turn.Lock()
		defer s.turn.Unlock()
		c.strangers = processes()
	}
	if c.groups, err = openGroups(t.req.Groups); err != nil {
		return 0, err
	}
	child, err := c.program().Start(unix.CLONE_NEWPID)
	for _, fd := range c.groups {
		unix.Close(fd)
	}
	if err != nil {
		return 0, explain(t, err)
	}
	var running process
	running.pidfd = child.PIDFD
	go running.obey(conn)
	return running.wait(child.PID)
}

// openGroups opens the files of control groups that the command enters.
func openGroups(files []string) (list []int, err error) {
	for _, file := range files {
		fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			for _, fd := range list {
				unix.Close(fd)
			}
			return nil, fmt.Errorf("enter the cgroup %s: %w", filepath.Dir(file), err)
		}
		list = append(list, fd)
	}
	return list, nil
}

// makeDir makes the working directory if it is missing.
func (t *tree) makeDir() error {
	clean, found, err := resolve(t.root, t.req.Dir)
	if err != nil || found {
		return err
	}
	fd, err := t.makeDirs(clean)
	if err != nil {
		return fmt.Errorf("make the working directory: %w", err)
	}
	return unix.Close(fd)
}

// explain says in the words that people know why a command did not start.
func explain(t *tree, err error) error {
	failure, ok := errors.AsType[*launch.Failure](err)
	if !ok || !failure.Exec {
		return err
	}
	name := t.req.Args[0]
	switch {
	case failure.Errno != unix.ENOENT && failure.Errno != unix.ENOTDIR:
		return fmt.Errorf("exec %q: %w", failure.Attempt, failure.Errno)
	case !strings.Contains(name, "/"):
		if file := t.interpreterless(); file != "" {
			return fmt.Errorf("exec %q: its interpreter or loader is not in the image: %w", file, failure.Errno)
		}
		return &notFound{name}
	case t.has(name):
		return fmt.Errorf("exec %q: its interpreter or loader is not in the image: %w", name, failure.Errno)
	}
	return fmt.Errorf("exec: %q: stat %s: %w", name, name, failure.Errno)
}

// notFound is a command that is in no folder of $PATH.
type notFound struct{ name string }

func (e *notFound) Error() string {
	return fmt.Sprintf("exec: %q: executable file not found in $PATH", e.name)
}
func (e *notFound) Unwrap() error { return unix.ENOENT }

// interpreterless returns the file in $PATH that is there although execve says not.
func (t *tree) interpreterless() string {
	path := valueOf((&steps{req: t.req}).environment(), "PATH")
	for dir := range strings.SplitSeq(path, ":") {
		if file := dir + "/" + t.req.Args[0]; strings.HasPrefix(dir, "/") && t.has(file) {
			return file
		}
	}
	return ""
}

// has tells whether a file is in the tree; a relative name is one in the working
// directory.
func (t *tree) has(name string) bool {
	if !strings.HasPrefix(name, "/") {
		name = t.req.Dir + "/" + name
	}
	fd, err := open(t.root, name, unix.O_PATH)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// process is a running command.
type process struct {
	mu    sync.Mutex
	pidfd int // -1 when it has ended
}

// obey sends on the signals that the caller asks for. When the caller hangs up the
// command is killed, and with it all of its process namespace.
func (p *process) obey(conn io.Reader) {
	b := make([]byte, 1)
	for {
		_, err := conn.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			p.signal(unix.SIGKILL)
			return
		}
		p.signal(syscall.Signal(b[0]))
	}
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd >= 0 {
		unix.PidfdSendSignal(p.pidfd, s, nil, 0)
	}
}

// wait returns when the command and with it everything that it started has ended.
func (p *process) wait(pid int) (status unix.WaitStatus, err error) {
	for {
		if _, err = unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	unix.Close(p.pidfd)
	p.pidfd = -1
	return status, err
}
