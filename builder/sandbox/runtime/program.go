package runtime

import (
	"fmt"
	"path/filepath"
	"strconv"
	"unsafe"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"github.com/cairn-build/cairn/builder/sandbox/seccomp"
	"golang.org/x/sys/unix"
)

// Descriptors in the child after the first calls of its program.
const (
	childRoot  = 3
	childDev   = 4
	childEmpty = 5 // an empty directory
	childFree  = 6 // the lowest free one, which the next call returns
)

// child composes the program of a child process: the system calls that it makes before
// it executes the command.
type child struct {
	*launch.Program
	s       *server
	t       *tree
	req     *wire.Request
	files   [3]int
	account step.Account
	named   bool // the terminal has a name in the tree

	hidden  []string // processes to hide in the machine's /proc
	cgroups []int    // descriptors of req.CgroupFiles
}

func (c *child) program() *launch.Program {
	c.enterCgroups()
	c.arrangeFDs()
	c.resetSignals()
	c.mountProc()
	c.changeRoot()
	c.dropPrivileges()
	c.exec()
	return c.Program
}

// enterCgroups moves the child into its control groups. The text "0" stands for the
// writing process.
func (c *child) enterCgroups() {
	for i, fd := range c.cgroups {
		c.Do("enter the cgroup "+filepath.Dir(c.req.CgroupFiles[i]), unix.SYS_WRITE, uintptr(fd), c.String("0"), 1)
	}
}

// arrangeFDs leaves the child with the standard streams and the descriptors that its
// program needs.
func (c *child) arrangeFDs() {
	if !c.req.Interactive || c.req.Terminal {
		c.Do("start a session", unix.SYS_SETSID)
	}
	for i, fd := range c.files {
		c.Do("pass on descriptors", unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
	}
	if c.req.Terminal {
		c.Do("take the terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	c.Do("pass on descriptors", unix.SYS_DUP3, uintptr(c.t.root), childRoot, unix.O_CLOEXEC)
	c.Do("pass on descriptors", unix.SYS_DUP3, uintptr(c.t.dev), childDev, unix.O_CLOEXEC)
	c.Do("pass on descriptors", unix.SYS_DUP3, uintptr(c.t.empty), childEmpty, unix.O_CLOEXEC)
	c.Do("close descriptors", unix.SYS_CLOSE_RANGE, childFree, uintptr(^uint32(0)), 0)
}

// resetSignals resets all signals to their default action. The runtime process ignores
// some, and the parent of Cairn may have ignored others, as shells do for background
// jobs.
func (c *child) resetSignals() {
	var standard [4]uint64 // struct sigaction with SIG_DFL
	action := launch.Pointer(c.Program, &standard)
	var nothing uint64
	c.Do("reset signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, launch.Pointer(c.Program, &nothing), 0, 8)
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			c.Do("reset signals", unix.SYS_RT_SIGACTION, sig, action, 0, 8)
		}
	}
}

// changeRoot makes the tree the root directory and unmounts the machine's.
func (c *child) changeRoot() {
	dot := c.String(".")
	const attempt = "change the root directory"
	c.Do(attempt, unix.SYS_FCHDIR, childRoot)
	c.Do(attempt, unix.SYS_PIVOT_ROOT, dot, dot)
	c.Do(attempt, unix.SYS_UMOUNT2, dot, unix.MNT_DETACH)
	c.Do(attempt, unix.SYS_CHDIR, c.String("/"))
	// An open directory would lead out of the tree through /proc/self/fd.
	c.Do("close descriptors", unix.SYS_CLOSE_RANGE, 3, uintptr(^uint32(0)), 0)
	if c.named {
		c.openTerminal()
	}
}

// dropPrivileges sets limits and the account, and drops privileges that a step must not
// have.
func (c *child) dropPrivileges() {
	c.Try(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
	limit := launch.Pointer(c.Program, &c.s.openFiles)
	c.Do("limit open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, limit, 0)
	for _, l := range c.req.Ulimits {
		limit := launch.Pointer(c.Program, &unix.Rlimit{Cur: uint64(l.Soft), Max: uint64(l.Hard)})
		attempt := fmt.Sprintf("set the ulimit %s to %d:%d", l.Name, l.Soft, l.Hard)
		c.Do(attempt, unix.SYS_PRLIMIT64, 0, uintptr(l.Resource), limit, 0)
	}
	if !c.req.Insecure {
		if !c.req.NoNetwork {
			c.restrictSockets()
		}
		c.filterSyscalls()
	}
	c.enterDir()
	allowed := c.s.bounding
	if !c.req.Insecure {
		allowed &= step.DefaultCapabilities()
	}
	allowed &^= uint64(c.req.DropCaps)
	for n := range 64 {
		if bit := uint64(1) << n; c.s.bounding&bit != 0 && allowed&bit == 0 {
			c.Do("drop capabilities", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0)
		}
	}
	c.Try(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	c.setAccount()
	if c.account.UID == 0 {
		head, sets := step.CapabilitySets(allowed)
		c.Do("drop capabilities", unix.SYS_CAPSET, launch.Pointer(c.Program, &head), launch.Pointer(c.Program, &sets))
	}
}

func (c *child) setAccount() {
	a := c.account
	groups := append(a.Groups[:len(a.Groups):len(a.Groups)], 0) // so that it has an address
	attempt := "become user " + strconv.Itoa(a.UID) + ":" + strconv.Itoa(a.GID)
	if !c.s.setsGroups {
		attempt += ", which is not mapped into the user namespace (to map more ids, see cairn info)"
	} else {
		c.Do(attempt, unix.SYS_SETGROUPS, uintptr(len(a.Groups)), launch.Pointer(c.Program, &groups[0]))
	}
	gid, uid := uintptr(a.GID), uintptr(a.UID)
	c.Do(attempt, unix.SYS_SETRESGID, gid, gid, gid)
	c.Do(attempt, unix.SYS_SETRESUID, uid, uid, uid)
}

// restrictSockets denies the step the machine's abstract Unix sockets, which it could
// otherwise reach through the shared network namespace and which have no permissions.
// Kernels before 6.12 do not support this. See landlock(7).
func (c *child) restrictSockets() {
	const ruleset = 3       // the lowest free descriptor
	attr := [3]uint64{2: 1} // struct landlock_ruleset_attr with scoped = LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	c.Try(unix.SYS_LANDLOCK_CREATE_RULESET, launch.Pointer(c.Program, &attr), unsafe.Sizeof(attr), 0)
	c.Try(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)
	c.Try(unix.SYS_CLOSE, ruleset)
}

// filterSyscalls installs the system call filter. It must come before privileges are
// dropped, because no_new_privs must stay off for setuid programs.
func (c *child) filterSyscalls() {
	program := seccomp.Default()
	fprog := launch.Pointer(c.Program, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	c.Do("install the system call filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, fprog)
}

func (c *child) enterDir() {
	dir := c.req.Dir
	if dir == "" {
		dir = "/"
	}
	c.Do("enter the working directory "+strconv.Quote(dir), unix.SYS_CHDIR, c.String(dir))
}

// exec executes the command.
func (c *child) exec() {
	env := step.Environment(c.req.Env, c.account.Home)
	for i, file := range step.Executables(c.req.Args[0], env) {
		if i == 0 {
			c.Exec(file, c.req.Args, env)
		} else {
			c.ExecSame(file)
		}
	}
}
