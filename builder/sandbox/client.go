package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/cairn-build/cairn/builder/sandbox/helper"
	"golang.org/x/sys/unix"
)

// Sandbox runs commands through one helper process, started when first needed and
// again should it die. The zero value is ready.
type Sandbox struct {
	mu     sync.Mutex
	helper *process

	// For tests: mount as older kernels do, and start from a copy of the binary.
	optionText, sealed bool
}

// process is a helper seen from its caller.
type process struct {
	control int
	child   *os.Process
	gone    chan struct{} // closed when the process has ended
}

// shared is the sandbox of Run.
var shared = sync.OnceValue(func() *Sandbox { return new(Sandbox) })

// Start starts the helper, which the first Run would otherwise wait for.
func (b *Sandbox) Start() error {
	_, err := b.running()
	return err
}

// Close ends the helper and all that runs in the sandbox.
func (b *Sandbox) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.helper == nil {
		return nil
	}
	err := unix.Close(b.helper.control)
	<-b.helper.gone
	b.helper = nil
	return err
}

// Run is the package's Run in this sandbox.
func (b *Sandbox) Run(ctx context.Context, s Spec) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	req, err := s.request()
	if err != nil {
		return Result{}, err
	}
	req.OptionText = b.optionText
	group, err := s.Groups.New()
	if err != nil {
		return Result{}, err
	}
	defer group.Remove() // what is left of it the maker tells of
	req.Groups = group.Files()
	out, err := openStreams(&s)
	if err != nil {
		return Result{}, err
	}
	ask := b.ask
	if s.Chroot {
		ask = runByChroot
	}
	reply, err := ask(ctx, req, out.files(), s.Signals)
	err = errors.Join(err, out.wait())
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	if err != nil {
		return Result{}, err
	}
	res, err := result(reply)
	res.Reached = group.Reached()
	return res, err
}

// result puts a reply into the caller's terms.
func result(reply helper.Reply) (Result, error) {
	if reply.Error != "" {
		return Result{}, &refusal{reply.Error, syscall.Errno(reply.Errno)}
	}
	status := unix.WaitStatus(reply.Status)
	if status.Signaled() {
		return Result{ExitCode: 128 + int(status.Signal()), Signal: unix.SignalName(status.Signal())}, nil
	}
	touched := strings.Split(strings.TrimSuffix(reply.Touched, "\x00"), "\x00")
	return Result{ExitCode: status.ExitStatus(), Touched: touched}, nil
}

// refusal is an error of the helper; it keeps the number for errors.Is.
type refusal struct {
	text  string
	errno syscall.Errno
}

func (e *refusal) Error() string { return e.text }

func (e *refusal) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// ask sends a request with its standard streams and waits for the reply.
func (b *Sandbox) ask(ctx context.Context, req *helper.Request, std [3]*os.File, signals <-chan os.Signal) (helper.Reply, error) {
	var reply helper.Reply
	h, conn, err := b.open(std)
	if err != nil {
		return reply, err
	}
	defer conn.Close()
	done := make(chan struct{})
	defer close(done)
	go forward(ctx, conn, signals, done)
	err = helper.Send(conn, req)
	if err == nil {
		err = helper.Receive(conn, &reply)
	}
	runtime.KeepAlive(std)
	if err != nil {
		h.end()
		return reply, fmt.Errorf("the sandbox's helper process has ended: %w", err)
	}
	return reply, nil
}

// end makes sure that a helper that failed is gone before another is started.
func (h *process) end() {
	h.child.Kill()
	<-h.gone
}

// forward sends on signals, and hangs up when ctx is cancelled: that kills the command.
func forward(ctx context.Context, conn *os.File, signals <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			if raw, err := conn.SyscallConn(); err == nil {
				raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
			}
			return
		case s, ok := <-signals:
			if number, known := s.(syscall.Signal); ok && known {
				conn.Write([]byte{byte(number)})
			} else if !ok {
				signals = nil
			}
		}
	}
}

// open begins a request, with a new helper if the last one has died.
func (b *Sandbox) open(std [3]*os.File) (*process, *os.File, error) {
	for last := false; ; last = true {
		h, err := b.running()
		if err != nil {
			return nil, nil, err
		}
		conn, err := h.open(std)
		if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) || last {
			return h, conn, err
		}
		h.end()
	}
}

// open begins a request: the helper gets one end of a new socket and the streams.
func (h *process) open(std [3]*os.File) (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(pair[1])
	files := []int{pair[1]}
	for _, f := range std {
		files = append(files, int(f.Fd()))
	}
	if err := unix.Sendmsg(h.control, []byte{0}, unix.UnixRights(files...), nil, unix.MSG_NOSIGNAL); err != nil {
		unix.Close(pair[0])
		return nil, fmt.Errorf("reach the sandbox's helper process: %w", err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(pair[0]), "sandbox"), nil
}

// running returns the helper, started if there is none.
func (b *Sandbox) running() (*process, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.helper != nil {
		select {
		case <-b.helper.gone:
			unix.Close(b.helper.control)
			b.helper = nil
		default:
			return b.helper, nil
		}
	}
	var err error
	b.helper, err = startHelper(b.sealed)
	return b.helper, err
}

func startHelper(sealed bool) (*process, error) {
	binary, err := ownBinary(sealed)
	if err != nil {
		return nil, err
	}
	defer binary.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	remote := os.NewFile(uintptr(pair[1]), "control")
	defer remote.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	h := &process{control: pair[0], gone: make(chan struct{})}
	started := make(chan error)
	go h.live(binary, null, remote, started)
	if err := <-started; err != nil {
		unix.Close(pair[0])
		return nil, fmt.Errorf("start the sandbox's helper process: %w", err)
	}
	return h, nil
}

// live starts the helper and waits for its end on one thread: the kernel kills the
// helper when the thread that started it ends.
func (h *process) live(binary, null, remote *os.File, started chan<- error) {
	runtime.LockOSThread()
	child, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", binary.Fd()), []string{helper.Argument}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{},
		Files: []*os.File{null, null, os.Stderr, remote},
		Sys: &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
			Pdeathsig:  syscall.SIGKILL,
		},
	})
	h.child = child
	started <- err
	if err == nil {
		child.Wait()
	}
	close(h.gone)
}

// ownBinary opens Cairn's binary so that nothing that runs in the sandbox can ever
// write to it, not even through /proc/self/exe just before an execve: as a read-only
// mount of that one file, or else as a sealed copy in memory.
func ownBinary(sealed bool) (*os.File, error) {
	const self = "/proc/self/exe"
	if sealed {
		return sealedCopy(self)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, self, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return sealedCopy(self)
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		unix.Close(fd)
		return sealedCopy(self)
	}
	return os.NewFile(uintptr(fd), self), nil
}

func sealedCopy(path string) (*os.File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	fd, err := unix.MemfdCreate("cairn", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("copy the own binary: %w", err)
	}
	out := os.NewFile(uintptr(fd), path)
	_, err = io.Copy(out, in)
	if err == nil {
		_, err = unix.FcntlInt(out.Fd(), unix.F_ADD_SEALS,
			unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("copy the own binary: %w", err)
	}
	return out, nil
}
