package step

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

// Process is a running command.
type Process struct {
	pid   int
	mu    sync.Mutex
	pidfd int // -1 after the process has been waited for
}

// NewProcess returns a child of this process. The Process owns pidfd.
func NewProcess(pid, pidfd int) *Process { return &Process{pid: pid, pidfd: pidfd} }

// ForwardSignals sends the process the signals that the caller writes to conn, one byte
// each. At the end of the stream, or when reading fails, it kills the process. It
// returns then, or when conn is closed.
func (p *Process) ForwardSignals(conn io.Reader) {
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

func (p *Process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd >= 0 {
		unix.PidfdSendSignal(p.pidfd, s, nil, 0)
	}
}

// leastMemory is the amount of memory in bytes from which on it must be that of the command:
// the kernel counts that of the program of this process, which executed it, too.
const leastMemory = 32 << 20

// Wait waits for the process to end. It must be called once.
func (p *Process) Wait() (end wire.End, err error) {
	var status unix.WaitStatus
	var used unix.Rusage
	for {
		if _, err = unix.Wait4(p.pid, &status, 0, &used); err != unix.EINTR {
			break
		}
	}
	end.Status, end.CPU = int64(status), (used.Utime.Nano()+used.Stime.Nano())/1000
	if memory := used.Maxrss << 10; memory >= leastMemory {
		end.Memory = memory
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	unix.Close(p.pidfd)
	p.pidfd = -1
	return end, err
}

// Processes returns the names of the folders of processes in /proc.
func Processes() (list []string) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if _, err := strconv.Atoi(name); err == nil {
			list = append(list, name)
		}
	}
	return list
}

// Children returns the children of a process.
func Children(parent int) (list []int) {
	for _, name := range Processes() {
		pid, _ := strconv.Atoi(name)
		if p, _ := Parent(pid); p == parent {
			list = append(list, pid)
		}
	}
	return list
}

// Parent returns the parent and the name of a process, 0 and "" if there is no such
// process.
func Parent(pid int) (parent int, name string) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, ""
	}
	return parseStat(string(text))
}

// parseStat parses the content of /proc/PID/stat, such as "12 (sh) S 1 12 ...".
func parseStat(text string) (parent int, name string) {
	// The name may contain any characters.
	end := strings.LastIndex(text, ") ")
	if end < 0 {
		return 0, ""
	}
	fields := strings.Fields(text[end+2:])
	if len(fields) < 2 {
		return 0, ""
	}
	_, name, _ = strings.Cut(text[:end], "(")
	parent, _ = strconv.Atoi(fields[1])
	return parent, name
}

// IgnoreSignals makes this process ignore signals of the terminal, which the caller
// handles, and others that would end it.
func IgnoreSignals() {
	signal.Ignore(
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP,
	)
}
