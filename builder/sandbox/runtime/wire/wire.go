// Package wire defines the messages between a sandbox and the processes that run its
// commands, and how they are encoded.
//
// A message is a length of four bytes followed by its fields in a fixed order. Strings
// keep their bytes, which JSON would not guarantee for invalid UTF-8. Both ends of
// the messages in this package are the same binary, so the encoding has no version.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// Names of processes. The program looks at its name to know that it is one of them.
const (
	RuntimeArgument    = "cairn-sandbox" // runs all commands in namespaces
	SupervisorArgument = "cairn-chroot"  // runs one command by chroot
	StepArgument       = "cairn-step"    // becomes the command of a supervisor
)

// ControlFD is the descriptor through which requests come.
//
// For a runtime process it is one end of a SOCK_SEQPACKET pair. Each packet carries the
// four descriptors of one request: a stream socket, standard input, output and error.
// The stream carries the Request and then single bytes, each the number of a signal for
// the command; the end of the stream kills the command. The Reply is sent back on it.
//
// For the other processes it is the stream socket itself.
const ControlFD = 3

// LifeFD is a descriptor of a lock that a supervisor holds, and its step until it has
// become the command. When another process gets the lock, only processes in the tree
// can start more processes there.
const LifeFD = ControlFD + 1

// Request asks for one command to be run or, if Probe is set, for overlay mounts to be
// tried.
type Request struct {
	Lowers      []string
	Upper, Work string
	Root        string // a plain tree, instead of Lowers, Upper and Work
	MountPoints string // a folder for empty mount points
	Mounts      []Mount
	Args, Env   []string
	Dir         string
	MakeDir     bool
	User        string
	Groups      []string // further groups of the user
	DropCaps    int64    // bit set of capabilities that the command does not have
	Hostname    string
	HostsFile   string // content of /etc/hosts
	NoHosts     bool   // /etc/hosts is that of the tree
	ResolvConf  string // content of /etc/resolv.conf
	NoNetwork   bool
	ShmSize     int64
	Ulimits     []Ulimit
	CgroupFiles []string // cgroup.procs files of the groups that the command enters first
	Interactive bool
	Terminal    bool // standard input becomes the controlling terminal of a new session
	Insecure    bool
	Own         int64  // bit n: standard stream n was made for this command
	OptionText  bool   // for tests: mount overlays by mount(2), as on old kernels
	Probe       string // a folder on the file system to try
}

// Ulimit is a resource limit of setrlimit(2). The value -1 is unlimited.
type Ulimit struct {
	Name                 string
	Resource, Soft, Hard int64
}

// Mount is a mount of a request. Its fields are those of the sandbox's Mount.
type Mount struct {
	Type           string
	Source, Target string
	ReadOnly       bool
	Lowers         []string
	Upper, Work    string
	Subpath        string
	Size           int64
	Data           string
	UID, GID       int64
	Mode           int64
}

// Reply is the result of a request.
type Reply struct {
	Error   string // why the command could not be started
	Errno   int64  // the number of the error that Error wraps, 0 for none
	Touched string // paths of a plain tree that were changed and restored; each ends in a zero byte
	End            // with an Error, Status is 1 for the result of a probe
}

// End is how a command ended, and the resources that it and the processes that it waited
// for have used.
type End struct {
	Status int64 // wait status
	CPU    int64 // processor time in microseconds
	Memory int64 // bytes of the largest process at its peak; 0 is not known, or little
}

// Err returns the error of the reply, nil if the command was run.
func (r *Reply) Err() error {
	if r.Error == "" {
		return nil
	}
	return &Error{r.Error, syscall.Errno(r.Errno)}
}

// SetErr stores a non-nil error in the reply.
func (r *Reply) SetErr(err error) {
	r.Error = err.Error()
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		r.Errno = int64(errno)
	}
}

// Error is an error of another process.
type Error struct {
	Text  string
	Errno syscall.Errno // the error number that it wraps, 0 for none
}

// Error returns the text.
func (e *Error) Error() string { return e.Text }

// Unwrap returns the error number, nil if there is none.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// maxMessage is the maximum size of a message in bytes. It exceeds the kernel's limit
// for the arguments of execve.
const maxMessage = 64 << 20

// Send writes one message.
func Send(w io.Writer, m Message) error {
	c := Coder{buf: make([]byte, 4, 4096)}
	m.Code(&c)
	if len(c.buf) > maxMessage {
		return fmt.Errorf("send a message: its %d bytes exceed the maximum of %d", len(c.buf), maxMessage)
	}
	binary.LittleEndian.PutUint32(c.buf, uint32(len(c.buf)-4))
	_, err := w.Write(c.buf)
	return err
}

// Receive reads one message. It returns io.EOF at the end of the stream.
func Receive(r io.Reader, m Message) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxMessage {
		return fmt.Errorf("receive a message: its %d bytes exceed the maximum of %d", size, maxMessage)
	}
	c := Coder{buf: make([]byte, size), reading: true}
	if _, err := io.ReadFull(r, c.buf); err != nil {
		return err
	}
	m.Code(&c)
	return c.err
}
