// Package helper is the process that starts the commands of a sandbox.
//
// One helper serves a whole build. It is the first process of a process namespace, so
// that the kernel ends every command, however it has detached itself, when the helper
// ends; and it ends when its caller does, however that happens. It runs from a
// read-only view of Cairn's binary and holds nothing but the requests in hand.
//
// Each request has a thread of its own, which enters new namespaces, puts the tree
// together there and starts the command with package launch. Nothing is ever mounted
// where another process could see it. Paths inside the tree belong to the image and
// are opened with openat2 below the tree's root only.
//
// The package imports little, so that a helper starts quickly.
package helper

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The helper's own small file system. It lies on a folder that nobody needs to reach
// through this mount namespace.
const (
	scratch     = "/proc/fs"
	scratchRoot = scratch + "/root"
	scratchVoid = scratch + "/void"
)

// server is the state of a helper process.
type server struct {
	mountNS      int
	makesNodes   bool // device nodes can be made
	ttyGroup     bool // group 5 exists here
	setsGroups   bool // supplementary groups can be set
	outerProc    bool // a /proc of a step's own is not granted: it gets the machine's
	allCaps      uint64
	openFiles    unix.Rlimit
	sysMasks     []string
	procFiles    []string
	procDirs     []string
	procReadOnly []string

	turn   sync.Mutex // of steps with the machine's /proc
	serial atomic.Int64
	mu     sync.Mutex
	bases  map[string]bool // layers of usual mount points that are ready
}

// Serve answers requests until the caller is gone. It does not return.
func Serve() {
	var list []os.Signal
	for _, s := range ignored() {
		list = append(list, s)
	}
	signal.Ignore(list...)
	// Started by descriptor, the process would be called by its number.
	name := append([]byte(Argument), 0)
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
	s := &server{bases: map[string]bool{}}
	err := errors.Join(reserve(), s.prepare())
	for {
		files, more := accept()
		if !more {
			os.Exit(0)
		}
		go s.serve(files, err)
	}
}

// reserve takes the numbers that a child gives its descriptors, so that no descriptor of
// a request has one of them, and is overwritten before the child passes it on.
func reserve() error {
	for {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil || fd >= childFree {
			unix.Close(fd)
			return err
		}
	}
}

// ignored are signals from a terminal, which are the caller's business, and others
// that would end the helper.
func ignored() []syscall.Signal {
	return []syscall.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP,
	}
}

// requestFiles is how many descriptors come with a request.
const requestFiles = 4

// accept waits for the descriptors of the next request.
func accept() (files []int, more bool) {
	packet, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4*requestFiles))
	n, size, _, _, err := unix.Recvmsg(ControlFD, packet, rights, unix.MSG_CMSG_CLOEXEC)
	if err == unix.EINTR {
		return accept()
	}
	if err != nil || n == 0 {
		return nil, false
	}
	messages, err := unix.ParseSocketControlMessage(rights[:size])
	if err != nil || len(messages) != 1 {
		return nil, false
	}
	files, err = unix.ParseUnixRights(&messages[0])
	return files, err == nil && len(files) == requestFiles
}

// serve answers one request.
func (s *server) serve(files []int, startErr error) {
	unix.SetNonblock(files[0], true)
	conn := os.NewFile(uintptr(files[0]), "request")
	defer conn.Close()
	var req Request
	reply := Reply{}
	err := Receive(conn, &req)
	if err = errors.Join(startErr, err); err == nil {
		var status unix.WaitStatus
		status, reply.Touched, err = s.perform(&req, [3]int(files[1:]), conn)
		reply.Status = int64(status)
	}
	if err != nil {
		reply.fail(err)
	}
	for _, fd := range files[1:] {
		unix.Close(fd)
	}
	Send(conn, &reply) // a caller that is gone needs no reply
}

// prepare sets up what all requests share.
func (s *server) prepare() error {
	unix.Umask(0)
	var err error
	if s.mountNS, err = unix.Open("/proc/self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open the mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	s.survey()
	if err := s.tryProc(); err != nil {
		return err
	}
	fs, err := newFS("tmpfs", noSuid|noDev|noExec, option{"mode", "755"})
	if err != nil {
		return err
	}
	if err := unix.MoveMount(fs, "", unix.AT_FDCWD, scratch, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount on %s: %w", scratch, err)
	}
	unix.Close(fs)
	// Not so in a user namespace, nor without CAP_MKNOD.
	s.makesNodes = unix.Mknod(scratch+"/null", unix.S_IFCHR, int(unix.Mkdev(1, 3))) == nil
	return errors.Join(os.Mkdir(scratchRoot, 0o755), os.Mkdir(scratchVoid, 0o555))
}

// survey looks at the machine: what there is to hide, and what is allowed here.
func (s *server) survey() {
	gids, _ := os.ReadFile("/proc/self/gid_map")
	s.ttyGroup = maps(string(gids), 5)
	// Not in a user namespace with a single id.
	setgroups, err := os.ReadFile("/proc/self/setgroups")
	s.setsGroups = err != nil || strings.TrimSpace(string(setgroups)) != "deny"
	last := 40
	if text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		last, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	for c := 0; c <= last; c++ {
		// What a container has lost already cannot be given to a step.
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil && has == 1 {
			s.allCaps |= 1 << c
		}
	}
	s.openFiles = unix.Rlimit{Cur: maxOpenFiles, Max: maxOpenFiles}
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &s.openFiles) == nil {
		s.openFiles.Cur = min(s.openFiles.Max, maxOpenFiles)
	}
	s.sysMasks = present("/sys/", "firmware", "devices/virtual/powercap")
	s.procFiles = present("/proc/", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug")
	s.procDirs = present("/proc/", "acpi", "asound", "scsi")
	s.procReadOnly = present("/proc/", "bus", "fs", "irq", "sys", "sysrq-trigger")
}

func present(dir string, names ...string) (out []string) {
	for _, name := range names {
		if _, err := os.Lstat(dir + name); err == nil {
			out = append(out, name)
		}
	}
	return out
}

// maps tells whether an id map has an id.
func maps(idMap string, id int64) bool {
	for line := range strings.Lines(idMap) {
		var first, count int64
		if f := strings.Fields(line); len(f) == 3 {
			first, _ = strconv.ParseInt(f[0], 10, 64)
			count, _ = strconv.ParseInt(f[2], 10, 64)
		}
		if id >= first && id < first+count {
			return true
		}
	}
	return false
}
