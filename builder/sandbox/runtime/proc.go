package runtime

import (
	"errors"
	"unsafe"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/mount"
	"golang.org/x/sys/unix"
)

// tryProc finds out whether a step can have its own /proc. In a user namespace the kernel
// refuses a new one if parts of the outer /proc are hidden, as in a container. Then a
// step gets the machine's /proc, with the processes that it must not see covered.
func (s *server) tryProc() error {
	proc, err := mount.New("proc", mount.NoSuid|mount.NoDev|mount.NoExec)
	if err == nil {
		return unix.Close(proc)
	}
	s.outerProc = errors.Is(err, unix.EPERM)
	if s.outerProc {
		return nil
	}
	return err
}

// mountProc mounts /proc, which only a process in the new PID namespace can do.
func (c *child) mountProc() {
	mountProc := c.mountNewProc
	if c.s.outerProc {
		mountProc = c.mountOuterProc
	}
	fd := mountProc("mount /proc")
	if !c.req.Insecure {
		c.protectProc(fd)
	}
	c.hideProcesses()
}

// mountNewProc mounts a new /proc, and returns its descriptor in the child. The next
// free descriptor is then childFree.
func (c *child) mountNewProc(attempt string) uintptr {
	const fs, proc, at = childFree, childFree + 1, childFree + 2
	c.Do(attempt, unix.SYS_FSOPEN, c.String("proc"), unix.FSOPEN_CLOEXEC)
	c.Do(attempt, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	c.Do(attempt, unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, mount.NoSuid|mount.NoDev|mount.NoExec)
	c.attachProc(attempt, proc, at)
	c.Do(attempt, unix.SYS_CLOSE, fs)
	return proc
}

// mountOuterProc is mountNewProc with a copy of the machine's /proc.
func (c *child) mountOuterProc(attempt string) uintptr {
	const first, proc, at = childFree, childFree + 1, childFree + 2
	empty := c.String("")
	// An unused descriptor makes the numbers the same as in mountNewProc.
	c.Do(attempt, unix.SYS_DUP, childEmpty)
	c.Do(attempt, unix.SYS_OPEN_TREE, uintptr(^uint(0)-99), c.String("/proc"), // AT_FDCWD
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	attr := launch.Pointer(c.Program, &unix.MountAttr{Attr_set: mount.NoSuid | mount.NoDev | mount.NoExec})
	c.Do(attempt, unix.SYS_MOUNT_SETATTR, proc, empty, unix.AT_EMPTY_PATH, attr, unsafe.Sizeof(unix.MountAttr{}))
	c.attachProc(attempt, proc, at)
	c.Do(attempt, unix.SYS_CLOSE, first)
	return proc
}

// attachProc attaches the mount proc to the tree. The descriptor at is free.
func (c *child) attachProc(attempt string, proc, at uintptr) {
	how := launch.Pointer(c.Program, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	empty := c.String("")
	c.Do("open /proc of the image as a directory", unix.SYS_OPENAT2, childRoot, c.String("proc"), how, unix.SizeofOpenHow)
	c.Do(attempt, unix.SYS_MOVE_MOUNT, proc, empty, at, empty, mount.EmptyPaths)
	c.Do(attempt, unix.SYS_CLOSE, at)
}

// hideProcesses mounts an empty directory on each process in /proc that does not belong
// to the step. The step cannot unmount it, and the mount ends with the process.
func (c *child) hideProcesses() {
	const proc, cover = childFree + 1, childFree
	empty := c.String("")
	for _, pid := range c.hidden {
		const attempt = "hide processes in /proc"
		c.Do(attempt, unix.SYS_OPEN_TREE, childEmpty, empty, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		c.Try(unix.SYS_MOVE_MOUNT, cover, empty, proc, c.String(pid), unix.MOVE_MOUNT_F_EMPTY_PATH) // fails if it has ended
		c.Do(attempt, unix.SYS_CLOSE, cover)
	}
}

// protectProc hides some files of /proc and makes others read-only.
func (c *child) protectProc(proc uintptr) {
	const cover = childFree
	empty := c.String("")
	attr := launch.Pointer(c.Program, &unix.MountAttr{Attr_set: mount.ReadOnly | mount.NoSuid | mount.NoDev | mount.NoExec})
	mountOver := func(dir uintptr, source, target string, device bool) {
		attempt := "protect /proc/" + target
		c.Do(attempt, unix.SYS_OPEN_TREE, dir, c.String(source),
			unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		if !device {
			c.Do(attempt, unix.SYS_MOUNT_SETATTR, cover, empty, unix.AT_EMPTY_PATH, attr, unsafe.Sizeof(unix.MountAttr{}))
		}
		c.Do(attempt, unix.SYS_MOVE_MOUNT, cover, empty, proc, c.String(target), unix.MOVE_MOUNT_F_EMPTY_PATH)
		c.Do(attempt, unix.SYS_CLOSE, cover)
	}
	for _, name := range c.s.procReadOnly {
		if c.s.outerProc && "/proc/"+name == scratch {
			mountOver(childEmpty, "", name, false)
			continue
		}
		mountOver(proc, name, name, false)
	}
	for _, name := range c.s.procFiles {
		mountOver(childDev, "null", name, true)
	}
	for _, name := range c.s.procDirs {
		mountOver(childEmpty, "", name, false)
	}
}
