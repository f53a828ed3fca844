package sandbox

import (
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

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"github.com/cairn-build/cairn/layer/listing"
)

// Layer is a layer of a tree in the isolation mode Gvisor.
type Layer struct {
	ID   string // two layers with the same ID have the same content
	Tree string // the unpacked layer, from which only the contents of regular files are read
	// Describe returns the paths of the layer, and the exact times of those that differ from
	// the listing. It is called when the layer is first used.
	Describe func() (*listing.Listing, []guest.Time, error)
}

// Change is a path in the upper file system of a command in the isolation mode Gvisor.
type Change = guest.Change

// guestKernel runs commands in one process of cairn-gvisor, which is started when it is
// first needed, and again if it has died.
type guestKernel struct{ process restarted[*guestProcess] }

// guestProcess is a process of cairn-gvisor.
type guestProcess struct {
	process
	program  string // its path
	messages tail   // its standard error
	state    string // how it has ended; set before gone is closed

	mu    sync.Mutex
	known map[string]bool // layers by ID
}

// sharedGuest is the kernel that Run uses.
var sharedGuest = sync.OnceValue(func() *guestKernel { return new(guestKernel) })

// probe starts the kernel. It returns nil if commands can be run.
func (k *guestKernel) probe() error {
	p, err := k.running()
	if err != nil {
		return err
	}
	_, err = p.ask(context.Background(), &guest.Request{Kind: guest.KindProbe})
	return err
}

// close ends the process and with it all commands.
func (k *guestKernel) close() error { return k.process.close() }

// running returns the process. It starts one if none is running.
func (k *guestKernel) running() (*guestProcess, error) { return k.process.get(startGuest) }

func startGuest() (*guestProcess, error) {
	program, err := guestProgram()
	if err != nil {
		return nil, err
	}
	control, remote, null, err := openControl()
	if err != nil {
		return nil, err
	}
	defer remote.Close()
	defer null.Close()
	messages, stderr, err := os.Pipe()
	if err != nil {
		unix.Close(control)
		return nil, err
	}
	defer stderr.Close()
	p := &guestProcess{program: program, process: process{control: control, gone: make(chan struct{})}, known: map[string]bool{}}
	started := make(chan error)
	go p.live(program, []*os.File{null, null, stderr, remote}, messages, started)
	if err := <-started; err != nil {
		unix.Close(control)
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// live starts the process and waits for its end. It does both on one thread, because the
// kernel kills the process when the thread that has started it ends.
func (p *guestProcess) live(program string, files []*os.File, messages *os.File, started chan<- error) {
	goruntime.LockOSThread()
	defer close(p.gone)
	defer messages.Close()
	child, err := os.StartProcess(program, []string{guestName}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: files,
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	p.child = child
	if err == nil {
		// If the container's memory is full, the kernel shall not choose cairn, which
		// reports the error.
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", child.Pid), []byte("1000"), 0)
	}
	started <- err
	if err != nil {
		return
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = messages.WriteTo(&p.messages)
	}()
	if state, err := child.Wait(); err == nil {
		p.state = state.String()
	}
	// Processes of the kernel could hold the pipe open.
	_ = messages.SetReadDeadline(pastTime)
	<-copied
	drain(messages, &p.messages)
}

// drain copies the bytes that a pipe holds. It does not wait for more.
func drain(pipe *os.File, to io.Writer) {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		buf := make([]byte, 4096)
		for {
			n, err := unix.Read(int(fd), buf)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 {
				return
			}
			_, _ = to.Write(buf[:n])
		}
	})
}

// end waits until the process, which has closed a connection, has printed the reason and
// has ended. It kills it if that takes too long.
func (p *guestProcess) end() {
	select {
	case <-p.gone:
	case <-time.After(10 * time.Second):
		p.kill()
	}
}

// otherProgramError reports that a program ended by itself, which cairn-gvisor does not do
// while it is used.
type otherProgramError struct{ program, state string }

func (e *otherProgramError) Error() string {
	return fmt.Sprintf("%s is not %s: it has ended (%s)", e.program, guestName, e.state)
}

// explain adds the last messages of a process that has ended to an error.
func (p *guestProcess) explain(err error) error {
	p.end()
	text := p.messages.reason()
	if strings.HasPrefix(p.state, "exit status ") && p.state != "exit status 2" && !strings.HasPrefix(text, guestName+":") {
		return &otherProgramError{p.program, p.state}
	}
	if text == "" && p.state == "signal: killed" {
		return fmt.Errorf("%s was killed, probably because the container's memory is full: raise its limit (in a pod: resources.limits.memory), or run fewer steps at a time (--jobs)", guestName)
	}
	if text == "" {
		text = err.Error()
	}
	return fmt.Errorf("%s has ended (%s): %s", guestName, p.state, text)
}

// connect opens a connection for one request.
func (p *guestProcess) connect(std [3]*os.File) (*os.File, error) {
	conn, err := p.open(std)
	if err != nil {
		return nil, p.explain(err)
	}
	return conn, nil
}

// ask sends a request that runs no command.
func (p *guestProcess) ask(ctx context.Context, req *guest.Request) (guest.Reply, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return guest.Reply{}, err
	}
	defer null.Close()
	conn, err := p.connect([3]*os.File{null, null, null})
	if err != nil {
		return guest.Reply{}, err
	}
	defer conn.Close()
	var reply guest.Reply
	req.Version = guest.Version
	if err := exchange(ctx, conn, req, &reply, nil); err != nil {
		return reply, p.explain(err)
	}
	return reply, reply.Err()
}

// learn makes layers known to the process.
func (p *guestProcess) learn(ctx context.Context, layers []Layer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range layers {
		if p.known[l.ID] {
			continue
		}
		x, times, err := l.Describe()
		if err != nil {
			return err
		}
		req := &guest.Request{Kind: guest.KindLayer, Layer: guest.Layer{ID: l.ID, Tree: l.Tree, Listing: string(x.Encode()), Times: times}}
		if _, err := p.ask(ctx, req); err != nil {
			return fmt.Errorf("describe the layer %s: %w", l.ID, err)
		}
		p.known[l.ID] = true
	}
	return nil
}

// run runs a command. The changes are those of its upper file system.
func (k *guestKernel) run(ctx context.Context, s *Spec, run *guest.Run, std [3]*os.File) (guest.Reply, []Change, error) {
	p, err := k.running()
	if err != nil {
		return guest.Reply{}, nil, err
	}
	if err := p.learn(ctx, s.allLayers()); err != nil {
		return guest.Reply{}, nil, err
	}
	conn, err := p.connect(std)
	if err != nil {
		return guest.Reply{}, nil, err
	}
	defer conn.Close()
	var reply guest.Reply
	err = exchange(ctx, conn, &guest.Request{Version: guest.Version, Kind: guest.KindRun, Run: *run}, &reply, s.Signals)
	var changes []Change
	if err == nil && reply.Error == "" {
		changes, err = guest.ReceiveChanges(conn)
	}
	goruntime.KeepAlive(std)
	if err != nil && ctx.Err() != nil { // it has hung up
		return reply, nil, context.Cause(ctx)
	}
	if err != nil {
		return reply, nil, p.explain(err)
	}
	return reply, changes, nil
}

// runInGuest runs a command in the shared kernel.
func (s *Spec) runInGuest(ctx context.Context, req *wire.Request, std [3]*os.File) (Result, error) {
	run, err := s.guestRun(req)
	if err != nil {
		return Result{}, err
	}
	reply, changes, err := sharedGuest().run(ctx, s, run, std)
	if err != nil {
		return Result{}, err
	}
	res, err := result(reply.Reply)
	res.Changes = changes
	res.LimitReached = s.Cgroups.Limits().Reached(cgroup.Hits{Memory: reply.Limit == "memory", PIDs: reply.Limit == "processes"})
	return res, err
}

// guestRun converts a Spec for the program.
func (s *Spec) guestRun(req *wire.Request) (*guest.Run, error) {
	if s.Insecure {
		return nil, errors.New("security=insecure is not available in the isolation mode gvisor: the kernel of the step has no privileges to give")
	}
	run := &guest.Run{
		Layers: ids(s.Layers), Upper: s.Upper, Scratch: s.Work, Args: req.Args, Env: req.Env, Dir: req.Dir, MakeDir: req.MakeDir,
		User: req.User, Groups: req.Groups, DropCaps: req.DropCaps, NoHosts: req.NoHosts, Hostname: req.Hostname, HostsFile: req.HostsFile, ResolvConf: req.ResolvConf, NoNetwork: req.NoNetwork,
		ShmSize: req.ShmSize, Ulimits: req.Ulimits, Memory: s.Cgroups.Limits().Memory, Processes: s.Cgroups.Limits().PIDs, Interactive: req.Interactive,
	}
	for i, m := range req.Mounts {
		g := guest.Mount{
			Type: m.Type, Target: m.Target, ReadOnly: m.ReadOnly, Layers: ids(s.Mounts[i].Layers), Subpath: m.Subpath,
			Source: m.Source, Record: s.Mounts[i].Record, Size: m.Size, Data: m.Data, UID: m.UID, GID: m.GID, Mode: m.Mode,
		}
		if m.Type == "bind" {
			g.Type = guest.MountVolume
			g.ReadOnly = m.ReadOnly || unix.Access(m.Source, unix.W_OK) != nil
		}
		run.Mounts = append(run.Mounts, g)
	}
	return run, nil
}

func ids(layers []Layer) (list []string) {
	for _, l := range layers {
		list = append(list, l.ID)
	}
	return list
}

// allLayers returns the layers of the tree and of mounts.
func (s *Spec) allLayers() []Layer {
	all := s.Layers[:len(s.Layers):len(s.Layers)]
	for _, m := range s.Mounts {
		all = append(all, m.Layers...)
	}
	return all
}

// tail keeps the last bytes that were written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*tailSize { // so that small writes do not move all of it each time
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailSize:]...)
	}
	return len(p), nil
}

// reason returns the line with which Go explains the end of a program, or else the last
// line.
func (t *tail) reason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.buf[max(0, len(t.buf)-tailSize):]))
	for _, mark := range []string{"panic: ", "fatal error: "} {
		if i := strings.LastIndex("\n"+text, "\n"+mark); i >= 0 {
			line, _, _ := strings.Cut(text[i:], "\n")
			return line
		}
	}
	return text[strings.LastIndexByte(text, '\n')+1:]
}
