package helper

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"github.com/cairn-build/cairn/builder/sandbox/seccomp"
	"golang.org/x/sys/unix"
)

// Descriptors in the child after the first calls of its program.
const (
	childRoot = 3
	childDev  = 4
	childVoid = 5 // an empty directory
	childFree = 6 // the lowest free one: what the next call returns
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// maxOpenFiles is the soft limit of a step wherever the hard one allows it. Far more
// make programs slow that close all descriptors one by one.
const maxOpenFiles = 65536

// steps writes down what a child does before it becomes the command.
type steps struct {
	*launch.Program
	s     *server
	t     *tree
	req   *Request
	files [3]int
	as    account

	strangers []string // processes in the machine's /proc
	groups    []int    // files of control groups, as in the request
}

func (c *steps) program() *launch.Program {
	c.enterGroups()
	c.descriptors()
	c.signals()
	c.proc()
	c.root()
	c.privileges()
	c.command()
	return c.Program
}

// enterGroups puts the child into its control groups, where 0 is whoever writes.
func (c *steps) enterGroups() {
	for i, fd := range c.groups {
		c.Do("enter the cgroup "+filepath.Dir(c.req.Groups[i]), unix.SYS_WRITE, uintptr(fd), c.String("0"), 1)
	}
}

// descriptors leaves the child with 0 to 2 and what the program itself needs.
func (c *steps) descriptors() {
	if !c.req.Interactive {
		c.Do("start a session", unix.SYS_SETSID)
	}
	for i, fd := range c.files {
		c.Do("pass on descriptors", unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
	}
	c.Do("pass on descriptors", unix.SYS_DUP3, uintptr(c.t.root), childRoot, unix.O_CLOEXEC)
	c.Do("pass on descriptors", unix.SYS_DUP3, uintptr(c.t.dev), childDev, unix.O_CLOEXEC)
	c.Do("pass on descriptors", unix.SYS_DUP3, uintptr(c.t.void), childVoid, unix.O_CLOEXEC)
	c.Do("close descriptors", unix.SYS_CLOSE_RANGE, childFree, uintptr(^uint32(0)), 0)
}

// signals takes back what the helper ignores, and whoever started Cairn: a shell
// ignores some for what it runs in the background.
func (c *steps) signals() {
	var standard [4]uint64 // struct sigaction, of SIG_DFL
	action := launch.Pointer(c.Program, &standard)
	var nothing uint64
	c.Do("reset signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, launch.Pointer(c.Program, &nothing), 0, 8)
	for sig := uintptr(1); sig <= 64; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			c.Do("reset signals", unix.SYS_RT_SIGACTION, sig, action, 0, 8)
		}
	}
}

// protect hides parts of /proc and makes others read-only.
func (c *steps) protect(proc uintptr) {
	const mount = childFree // closed again by now
	empty := c.String("")
	attr := launch.Pointer(c.Program, &unix.MountAttr{Attr_set: readOnly | noSuid | noDev | noExec})
	cover := func(dir uintptr, source, target string, device bool) {
		attempt := "protect /proc/" + target
		c.Do(attempt, unix.SYS_OPEN_TREE, dir, c.String(source),
			unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		if !device {
			c.Do(attempt, unix.SYS_MOUNT_SETATTR, mount, empty, unix.AT_EMPTY_PATH, attr, unsafe.Sizeof(unix.MountAttr{}))
		}
		c.Do(attempt, unix.SYS_MOVE_MOUNT, mount, empty, proc, c.String(target), unix.MOVE_MOUNT_F_EMPTY_PATH)
		c.Do(attempt, unix.SYS_CLOSE, mount)
	}
	for _, name := range c.s.procReadOnly {
		if c.s.outerProc && "/proc/"+name == scratch {
			cover(childVoid, "", name, false)
			continue
		}
		cover(proc, name, name, false)
	}
	for _, name := range c.s.procFiles {
		cover(childDev, "null", name, true)
	}
	for _, name := range c.s.procDirs {
		cover(childVoid, "", name, false)
	}
}

// root makes the tree the root directory and drops the machine's.
func (c *steps) root() {
	dot := c.String(".")
	const attempt = "change the root directory"
	c.Do(attempt, unix.SYS_FCHDIR, childRoot)
	c.Do(attempt, unix.SYS_PIVOT_ROOT, dot, dot)
	c.Do(attempt, unix.SYS_UMOUNT2, dot, unix.MNT_DETACH)
	c.Do(attempt, unix.SYS_CHDIR, c.String("/"))
	// Whatever is open would be a way out through /proc/self/fd.
	c.Do("close descriptors", unix.SYS_CLOSE_RANGE, 3, uintptr(^uint32(0)), 0)
}

// privileges gives up what a step must not have.
func (c *steps) privileges() {
	c.Try(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0)
	limit := launch.Pointer(c.Program, &c.s.openFiles)
	c.Do("limit open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, limit, 0)
	for _, l := range c.req.Limits {
		limit := launch.Pointer(c.Program, &unix.Rlimit{Cur: uint64(l.Soft), Max: uint64(l.Hard)})
		attempt := fmt.Sprintf("set the limit %s to %d:%d", l.Name, l.Soft, l.Hard)
		c.Do(attempt, unix.SYS_PRLIMIT64, 0, uintptr(l.Resource), limit, 0)
	}
	if !c.req.Insecure {
		if !c.req.NoNetwork {
			c.scope()
		}
		c.filter()
	}
	c.directory()
	allowed := c.s.allCaps
	if !c.req.Insecure {
		allowed &= stepCaps()
	}
	for n := range 64 {
		if bit := uint64(1) << n; c.s.allCaps&bit != 0 && allowed&bit == 0 {
			c.Do("drop capabilities", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0)
		}
	}
	c.Try(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	groups := append(c.as.groups[:len(c.as.groups):len(c.as.groups)], 0) // never empty
	attempt := "become user " + strconv.Itoa(c.as.uid) + ":" + strconv.Itoa(c.as.gid)
	if !c.s.setsGroups {
		attempt += ", where all have one id (cairn info says how to have more)"
	} else {
		c.Do(attempt, unix.SYS_SETGROUPS, uintptr(len(c.as.groups)), launch.Pointer(c.Program, &groups[0]))
	}
	gid, uid := uintptr(c.as.gid), uintptr(c.as.uid)
	c.Do(attempt, unix.SYS_SETRESGID, gid, gid, gid)
	c.Do(attempt, unix.SYS_SETRESUID, uid, uid, uid)
	if c.as.uid == 0 {
		c.capabilities(allowed)
	}
}

// scope keeps the step from abstract Unix sockets of the machine, which go by the network
// that it shares, and no file says who may connect to them. Kernels before 6.12 do not
// know how. See landlock(7).
func (c *steps) scope() {
	const ruleset = 3       // the lowest that is free
	attr := [3]uint64{2: 1} // struct landlock_ruleset_attr: scoped to LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	c.Try(unix.SYS_LANDLOCK_CREATE_RULESET, launch.Pointer(c.Program, &attr), unsafe.Sizeof(attr), 0)
	c.Try(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)
	c.Try(unix.SYS_CLOSE, ruleset)
}

// filter installs the system call filter. The installing process needs privileges, as
// no_new_privs must stay off for setuid programs.
func (c *steps) filter() {
	program := seccomp.Default()
	fprog := launch.Pointer(c.Program, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	c.Do("install the system call filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, fprog)
}

func (c *steps) directory() {
	dir := c.req.Dir
	if dir == "" {
		dir = "/"
	}
	c.Do("enter the working directory "+strconv.Quote(dir), unix.SYS_CHDIR, c.String(dir))
}

// capabilities sets effective and permitted ones; none is inheritable.
func (c *steps) capabilities(allowed uint64) {
	head := launch.Pointer(c.Program, &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3})
	sets := [2]unix.CapUserData{
		{Effective: uint32(allowed), Permitted: uint32(allowed)},
		{Effective: uint32(allowed >> 32), Permitted: uint32(allowed >> 32)},
	}
	c.Do("drop capabilities", unix.SYS_CAPSET, head, launch.Pointer(c.Program, &sets))
}

// stepCaps are the capabilities of a step, those of a container by default.
func stepCaps() (set uint64) {
	for _, c := range []int{
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FSETID, unix.CAP_FOWNER, unix.CAP_MKNOD,
		unix.CAP_NET_RAW, unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETFCAP, unix.CAP_SETPCAP,
		unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT, unix.CAP_KILL, unix.CAP_AUDIT_WRITE,
	} {
		set |= 1 << c
	}
	return set
}

// command adds the program itself, wherever in $PATH it may be.
func (c *steps) command() {
	env := c.environment()
	name := c.req.Args[0]
	if strings.Contains(name, "/") {
		c.Exec(name, c.req.Args, env)
		return
	}
	first := true
	for dir := range strings.SplitSeq(valueOf(env, "PATH"), ":") {
		// A relative folder of $PATH would make the working directory a source of programs.
		if !strings.HasPrefix(dir, "/") {
			continue
		}
		if path := strings.TrimRight(dir, "/") + "/" + name; first {
			c.Exec(path, c.req.Args, env)
			first = false
		} else {
			c.ExecSame(path)
		}
	}
	if first {
		c.Exec("/"+name+"/", c.req.Args, env) // an empty $PATH: not found
	}
}

// environment is the declared one, with PATH and HOME when they are not.
func (c *steps) environment() []string {
	env := c.req.Env[:len(c.req.Env):len(c.req.Env)]
	if !has(env, "PATH") {
		env = append(env, "PATH="+defaultPath)
	}
	if !has(env, "HOME") {
		env = append(env, "HOME="+c.as.home)
	}
	return env
}

func has(env []string, name string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, name+"=") {
			return true
		}
	}
	return false
}

// valueOf returns the last value, as most programs see it.
func valueOf(env []string, name string) (value string) {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}
