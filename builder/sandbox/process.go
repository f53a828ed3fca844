package sandbox

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// process is a process that runs commands: the runtime process, or cairn-gvisor.
type process struct {
	control int
	child   *os.Process
	gone    chan struct{} // closed when the process has ended
}

// base returns p, also for a type that embeds a process.
func (p *process) base() *process { return p }

// kill kills the process and waits for its end.
func (p *process) kill() {
	p.child.Kill()
	<-p.gone
}

// open sends the process one end of a new connection together with the standard streams.
func (p *process) open(std [3]*os.File) (*os.File, error) {
	conn, theirs, err := connect()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	files := []int{int(theirs.Fd())}
	for _, f := range std {
		files = append(files, int(f.Fd()))
	}
	if err := unix.Sendmsg(p.control, []byte{0}, unix.UnixRights(files...), nil, unix.MSG_NOSIGNAL); err != nil {
		conn.Close()
		return nil, fmt.Errorf("send a request to the runtime process: %w", err)
	}
	return conn, nil
}

// openControl returns both ends of the control socket of a new process, and the null
// device for its standard streams.
func openControl() (control int, remote, null *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, nil, fmt.Errorf("open a socket: %w", err)
	}
	null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
		return -1, nil, nil, err
	}
	return pair[0], os.NewFile(uintptr(pair[1]), "control"), null, nil
}

// restarted has one process, which is started when it is first needed, and again if it
// has died. The zero value is ready.
type restarted[P interface {
	comparable
	base() *process
}] struct {
	mu      sync.Mutex
	current P // the zero value if none was started
}

// get returns the process. It starts one if none is running.
func (r *restarted[P]) get(start func() (P, error)) (P, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var none P
	if r.current != none {
		select {
		case <-r.current.base().gone:
			unix.Close(r.current.base().control)
			r.current = none
		default:
			return r.current, nil
		}
	}
	p, err := start()
	if err != nil {
		return none, err
	}
	r.current = p
	return p, nil
}

// close ends the process and with it all commands.
func (r *restarted[P]) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var none P
	if r.current == none {
		return nil
	}
	p := r.current.base()
	err := unix.Close(p.control)
	<-p.gone
	r.current = none
	return err
}
