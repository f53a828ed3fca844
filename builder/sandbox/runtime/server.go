// Package runtime is the process that starts the commands of a sandbox in namespaces.
//
// One runtime process serves a whole build. It is the first process of a process
// namespace, so that the kernel ends every command, even a detached one, when the runtime
// process ends. The kernel ends the runtime process with its caller. It is executed from
// a read-only view of Cairn's binary, and has no state but that of the current requests.
//
// Each request has its own thread, which enters new namespaces, assembles the tree there,
// and starts the command with package launch. Mounts are never visible to other
// processes. Paths in the tree belong to the image and are resolved by package inroot.
//
// Packages below have parts of this work: wire the protocol, inroot and mount the system
// calls for paths and mounts, plaintree changes in trees without an overlay, and step the
// parts that do not depend on namespaces. Package chroot runs commands without
// namespaces.
//
// The package has few imports, so that the process starts quickly.
package runtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/mount"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/plaintree"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

// A small file system of the runtime process, mounted on a folder that is not needed in
// its mount namespace.
const (
	scratch     = "/proc/fs"
	scratchRoot = scratch + "/root"  // mount point of trees
	scratchVoid = scratch + "/empty" // an empty directory
)

// server is the state of a runtime process.
type server struct {
	mountNS      int
	makesNodes   bool // device nodes can be made
	hasTTYGroup  bool // group 5 is mapped
	setsGroups   bool // supplementary groups can be set
	outerProc    bool // steps get the machine's /proc, as the kernel refuses a new one
	bounding     uint64
	openFiles    unix.Rlimit
	sysMasks     []string
	procFiles    []string
	procDirs     []string
	procReadOnly []string

	outerProcMu sync.Mutex // held by the step that uses the machine's /proc
	serial      atomic.Int64
	mu          sync.Mutex
	bases       map[string]bool // finished layers of usual mount points
}

// Serve serves requests until the caller has closed the socket or ended. It does not
// return.
func Serve() {
	step.IgnoreSignals()
	// Otherwise the process would have the number of a descriptor as its name.
	name := append([]byte(wire.RuntimeArgument), 0)
	unix.Syscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0)
	s := &server{bases: map[string]bool{}}
	err := errors.Join(reserveFDs(), s.prepare())
	for {
		files, more := accept()
		if !more {
			os.Exit(0)
		}
		go s.serve(files, err)
	}
}

// reserveFDs opens the descriptors below childFree, which have a fixed use in child
// processes. A descriptor of a request with such a number would be overwritten in the
// child before it is passed on.
func reserveFDs() error {
	for {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil || fd >= childFree {
			unix.Close(fd)
			return err
		}
	}
}

// requestFiles is the number of descriptors that come with a request.
const requestFiles = 4

// accept waits for the descriptors of the next request.
func accept() (files []int, more bool) {
	packet, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4*requestFiles))
	n, size, _, _, err := unix.Recvmsg(wire.ControlFD, packet, rights, unix.MSG_CMSG_CLOEXEC)
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

// serve serves one request. A non-nil startErr is the reply.
func (s *server) serve(files []int, startErr error) {
	unix.SetNonblock(files[0], true)
	conn := os.NewFile(uintptr(files[0]), "request")
	defer conn.Close()
	var req wire.Request
	reply := wire.Reply{}
	err := wire.Receive(conn, &req)
	if err = errors.Join(startErr, err); err == nil {
		reply.End, reply.Touched, err = s.perform(&req, [3]int(files[1:]), conn)
	}
	if err != nil {
		reply.SetErr(err)
	}
	for _, fd := range files[1:] {
		unix.Close(fd)
	}
	wire.Send(conn, &reply) // fails if the caller has ended
}

// prepare sets up the state that requests share.
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
	fs, err := mount.New("tmpfs", mount.NoSuid|mount.NoDev|mount.NoExec, mount.Option{Key: "mode", Value: "755"})
	if err != nil {
		return err
	}
	if err := mount.AttachAt(fs, unix.AT_FDCWD, scratch); err != nil {
		return fmt.Errorf("mount on %s: %w", scratch, err)
	}
	unix.Close(fs)
	// This fails in a user namespace, and without CAP_MKNOD.
	s.makesNodes = unix.Mknod(scratch+"/null", unix.S_IFCHR, int(unix.Mkdev(1, 3))) == nil
	return errors.Join(os.Mkdir(scratchRoot, 0o755), os.Mkdir(scratchVoid, 0o555))
}

// survey finds the files of the machine to hide from steps, and the permitted operations.
func (s *server) survey() {
	gids, _ := os.ReadFile("/proc/self/gid_map")
	s.hasTTYGroup = isMapped(string(gids), 5)
	// In a user namespace with a single id, groups cannot be set.
	setgroups, err := os.ReadFile("/proc/self/setgroups")
	s.setsGroups = err != nil || strings.TrimSpace(string(setgroups)) != "deny"
	s.bounding, s.openFiles = step.BoundingSet(), step.OpenFiles()
	s.sysMasks = existing("/sys/", "firmware", "devices/virtual/powercap")
	s.procFiles = existing("/proc/", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug")
	s.procDirs = existing("/proc/", "acpi", "asound", "scsi")
	s.procReadOnly = existing("/proc/", "bus", "fs", "irq", "sys", "sysrq-trigger")
}

// existing returns those of the names that exist in a directory.
func existing(dir string, names ...string) (out []string) {
	for _, name := range names {
		if _, err := os.Lstat(dir + name); err == nil {
			out = append(out, name)
		}
	}
	return out
}

// isMapped reports whether an id map, in the form of /proc/self/uid_map, has an id.
func isMapped(idMap string, id int64) bool {
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

// base returns a layer with the mount points of a request in a folder. It makes the layer
// if it is not there.
func (s *server) base(folder string, req *wire.Request) (string, error) {
	dir := folder + "/base"
	if req.NoHosts {
		dir = folder + "/nohosts"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bases[dir] {
		return dir, nil
	}
	if err := plaintree.MakeAll(dir, mountPoints(req)); err != nil {
		return "", err
	}
	s.bases[dir] = true
	return dir, nil
}

// mountPoints returns the mount points of a request, without those of its own mounts.
func mountPoints(req *wire.Request) []plaintree.MountPoint {
	if req.NoHosts {
		return plaintree.WithoutHosts()
	}
	return plaintree.Usual()
}
