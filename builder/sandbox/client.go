package sandbox

import (
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"

	"context"
	"errors"
	"fmt"
	"io"
	"os"
	goruntime "runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"golang.org/x/sys/unix"
)

// Sandbox runs commands through one runtime process, which is started when it is first
// needed, and again if it has died. The zero value is ready.
type Sandbox struct {
	runtime restarted[*process]

	// For tests: mount as on older kernels, and start from a copy of the binary.
	optionText, sealed bool
}

// shared returns the sandbox that Run uses.
var shared = sync.OnceValue(func() *Sandbox { return new(Sandbox) })

// Start starts the runtime process, so that the first Run need not wait for it.
func (b *Sandbox) Start() error {
	_, err := b.running()
	return err
}

// Close ends the runtime process and with it all commands.
func (b *Sandbox) Close() error { return b.runtime.close() }

// Run is like the function Run, with this sandbox.
func (b *Sandbox) Run(ctx context.Context, s Spec) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	req, err := s.request()
	if err != nil {
		return Result{}, err
	}
	req.OptionText = b.optionText
	group, err := s.Cgroups.New()
	if err != nil {
		return Result{}, err
	}
	defer group.Remove() // if that fails, closing the maker returns the error
	req.CgroupFiles = group.Files()
	out, err := openStreams(&s)
	if err != nil {
		return Result{}, err
	}
	req.Own = out.own
	memory := cgroup.NewWatch()
	res, err := b.dispatch(ctx, &s, req, out.files())
	err = errors.Join(err, out.wait())
	if ctx.Err() != nil {
		return Result{Changes: res.Changes}, context.Cause(ctx)
	}
	if err != nil {
		return Result{}, err
	}
	if reached := group.Reached(); reached != "" {
		res.LimitReached = reached
	}
	if res.LimitReached == "" {
		res.LimitReached = memory.Reason(res.ExitCode)
	}
	return res, nil
}

// dispatch runs a command in the isolation mode of its Spec.
func (b *Sandbox) dispatch(ctx context.Context, s *Spec, req *wire.Request, std [3]*os.File) (Result, error) {
	ask := b.ask
	switch {
	case s.Layers != nil:
		return s.runInGuest(ctx, req, std)
	case s.Chroot:
		ask = runByChroot
	}
	reply, err := ask(ctx, req, std, s.Signals)
	if err != nil {
		return Result{}, err
	}
	return result(reply)
}

// result converts a reply.
func result(reply wire.Reply) (Result, error) {
	if err := reply.Err(); err != nil {
		return Result{}, err
	}
	status := unix.WaitStatus(reply.Status)
	res := Result{CPU: time.Duration(reply.CPU) * time.Microsecond, Memory: reply.Memory}
	if status.Signaled() {
		res.ExitCode, res.Signal = 128+int(status.Signal()), unix.SignalName(status.Signal())
		return res, nil
	}
	res.ExitCode = status.ExitStatus()
	res.Touched = strings.Split(strings.TrimSuffix(reply.Touched, "\x00"), "\x00")
	return res, nil
}

// ask sends a request with its standard streams and waits for the reply.
func (b *Sandbox) ask(ctx context.Context, req *wire.Request, std [3]*os.File, signals <-chan os.Signal) (wire.Reply, error) {
	p, conn, err := b.open(std)
	if err != nil {
		return wire.Reply{}, err
	}
	defer conn.Close()
	var reply wire.Reply
	err = exchange(ctx, conn, req, &reply, signals)
	goruntime.KeepAlive(std)
	if err != nil {
		p.kill()
		return reply, fmt.Errorf("run a command: the runtime process has ended: %w", err)
	}
	return reply, nil
}

// open connects to the runtime process for one request. It starts a new process if the
// last one has died.
func (b *Sandbox) open(std [3]*os.File) (*process, *os.File, error) {
	for last := false; ; last = true {
		p, err := b.running()
		if err != nil {
			return nil, nil, err
		}
		conn, err := p.open(std)
		if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) || last {
			return p, conn, err
		}
		p.kill()
	}
}

// running returns the runtime process. It starts one if none is running.
func (b *Sandbox) running() (*process, error) {
	return b.runtime.get(func() (*process, error) { return startRuntime(b.sealed) })
}

func startRuntime(sealed bool) (*process, error) {
	binary, err := ownBinary(sealed)
	if err != nil {
		return nil, err
	}
	defer binary.Close()
	control, remote, null, err := openControl()
	if err != nil {
		return nil, err
	}
	defer remote.Close()
	defer null.Close()
	p := &process{control: control, gone: make(chan struct{})}
	started := make(chan error)
	go p.live(binary, null, remote, started)
	if err := <-started; err != nil {
		unix.Close(control)
		return nil, fmt.Errorf("start the runtime process: %w", err)
	}
	return p, nil
}

// live starts the process and waits for its end. It does both on one thread, because the
// kernel kills the process when the thread that has started it ends.
func (p *process) live(binary, null, remote *os.File, started chan<- error) {
	goruntime.LockOSThread()
	child, err := os.StartProcess(fmt.Sprintf("/proc/self/fd/%d", binary.Fd()), []string{wire.RuntimeArgument}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{},
		Files: []*os.File{null, null, os.Stderr, remote},
		Sys: &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
			Pdeathsig:  syscall.SIGKILL,
		},
	})
	p.child = child
	started <- err
	if err == nil {
		child.Wait()
	}
	close(p.gone)
}

// ownBinary opens Cairn's binary in a way that a command can never write to it, even
// through /proc/self/exe just before an execve: through a read-only mount of the file or,
// if that fails or sealed is set, as a sealed copy in memory.
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

// sealedCopy returns a copy of a file in memory that cannot be changed.
func sealedCopy(path string) (*os.File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	fd, err := unix.MemfdCreate("cairn", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("copy the binary of this program: %w", err)
	}
	out := os.NewFile(uintptr(fd), path)
	_, err = io.Copy(out, in)
	if err == nil {
		_, err = unix.FcntlInt(out.Fd(), unix.F_ADD_SEALS,
			unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("copy the binary of this program: %w", err)
	}
	return out, nil
}
