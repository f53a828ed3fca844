// Command cairn-gvisor runs the commands of cairn's isolation mode gvisor in a gVisor
// kernel of its own, without namespaces, mounts or capabilities. Cairn starts it; see
// package builder/sandbox/runtime/guest for the messages.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/log"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"github.com/cairn-build/cairn/cmd/cairn-gvisor/container"
	"github.com/cairn-build/cairn/cmd/cairn-gvisor/sentry"
)

func main() {
	runtime.LockOSThread()
	// The descriptor is checked first: without it the program was started by hand.
	if kind, err := unix.GetsockoptInt(guest.ControlFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
		fmt.Fprintln(os.Stderr, "cairn-gvisor: this program is started by cairn; see cairn's documentation on isolation")
		os.Exit(2)
	}
	unix.CloseOnExec(guest.ControlFD)
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "cairn-gvisor:", err)
		os.Exit(1)
	}
	// Signals of the caller's terminal are for the caller. The error is that the process is
	// a session leader already.
	unix.Setsid()
	unix.Umask(0)
	debug.SetTraceback("system")
	log.SetLevel(log.Warning)
	serve()
	os.Exit(0)
}

// server starts the kernel when it is first needed.
type server struct {
	once       sync.Once
	containers *container.Server
	err        error
}

func (s *server) start() (*container.Server, error) {
	s.once.Do(func() {
		k, err := sentry.New()
		if err != nil {
			s.err = fmt.Errorf("start the gVisor kernel: %w", err)
			return
		}
		s.containers = container.NewServer(k)
	})
	return s.containers, s.err
}

// serve accepts connections until the control socket is closed.
func serve() {
	s := &server{}
	buf, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4*4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(guest.ControlFD, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) != 1 {
			return
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 4 {
			return
		}
		unix.SetNonblock(fds[0], true) // so that closing it ends a Read
		go s.connection(os.NewFile(uintptr(fds[0]), "connection"), [3]int(fds[1:]))
	}
}

// connection answers one request.
func (s *server) connection(conn *os.File, std [3]int) {
	defer conn.Close()
	var req guest.Request
	if err := wire.Receive(conn, &req); err != nil {
		closeAll(std)
		return
	}
	reply, changes, err := s.answer(conn, &req, std)
	if err != nil {
		reply = &guest.Reply{}
		reply.SetErr(err)
	}
	if wire.Send(conn, reply) != nil || err != nil || req.Kind != guest.KindRun {
		return
	}
	guest.SendChanges(conn, changes)
}

func closeAll(std [3]int) {
	for _, fd := range std {
		unix.Close(fd)
	}
}

// answer carries out a request. It owns the standard streams.
func (s *server) answer(conn *os.File, req *guest.Request, std [3]int) (*guest.Reply, []guest.Change, error) {
	if req.Version != guest.Version {
		closeAll(std)
		return nil, nil, fmt.Errorf("cairn-gvisor has version %s of the messages and cairn has %q: %s", guest.Version, req.Version, guest.OneRelease)
	}
	containers, err := s.start()
	if err != nil || req.Kind != guest.KindRun {
		closeAll(std)
	}
	switch {
	case err != nil:
		return nil, nil, err
	case req.Kind == guest.KindProbe:
		return &guest.Reply{}, nil, nil
	case req.Kind == guest.KindLayer:
		return &guest.Reply{}, nil, containers.AddLayer(&req.Layer)
	case req.Kind == guest.KindRun:
		return containers.Run(&req.Run, std, signals(conn))
	}
	return nil, nil, fmt.Errorf("requests of the kind %q are not known", req.Kind)
}

// signals returns the signals that arrive on a connection. At its end that is SIGKILL.
func signals(conn *os.File) <-chan linux.Signal {
	c := make(chan linux.Signal, 1)
	go func() {
		defer close(c)
		b := make([]byte, 1)
		for {
			n, err := conn.Read(b)
			if n == 0 || err != nil {
				c <- linux.SIGKILL
				return
			}
			c <- linux.Signal(b[0])
		}
	}()
	return c
}
