package helper

import (
	"errors"
	"os"
	"strconv"
	"unsafe"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"golang.org/x/sys/unix"
)

// tryProc finds out whether a step can have a /proc of its own. In a user namespace the
// kernel refuses one where that outside has parts hidden, as containers have: then a
// step gets the machine's, in which the processes that it must not see are covered.
func (s *server) tryProc() error {
	proc, err := newFS("proc", noSuid|noDev|noExec)
	if err == nil {
		return unix.Close(proc)
	}
	s.outerProc = errors.Is(err, unix.EPERM)
	if s.outerProc {
		return nil
	}
	return err
}

// processes lists those that the machine's /proc shows.
func processes() (list []string) {
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

// proc mounts /proc: only a process inside the new process namespace can.
func (c *steps) proc() {
	mount := c.ownProc
	if c.s.outerProc {
		mount = c.outerProc
	}
	fd := mount("mount /proc")
	if !c.req.Insecure {
		c.protect(fd)
	}
	c.coverProcesses()
}

// ownProc mounts a new one, and returns the descriptor that it has in the child. The
// next free one is childFree.
func (c *steps) ownProc(attempt string) uintptr {
	const fs, mount, place = childFree, childFree + 1, childFree + 2
	c.Do(attempt, unix.SYS_FSOPEN, c.String("proc"), unix.FSOPEN_CLOEXEC)
	c.Do(attempt, unix.SYS_FSCONFIG, fs, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	c.Do(attempt, unix.SYS_FSMOUNT, fs, unix.FSMOUNT_CLOEXEC, noSuid|noDev|noExec)
	c.putProc(attempt, mount, place)
	c.Do(attempt, unix.SYS_CLOSE, fs)
	return mount
}

// outerProc binds the machine's.
func (c *steps) outerProc(attempt string) uintptr {
	const first, mount, place = childFree, childFree + 1, childFree + 2
	empty := c.String("")
	// Two descriptors, so that all is numbered as for a new one.
	c.Do(attempt, unix.SYS_DUP, childVoid)
	c.Do(attempt, unix.SYS_OPEN_TREE, uintptr(^uint(0)-99), c.String("/proc"), // AT_FDCWD
		unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	attr := launch.Pointer(c.Program, &unix.MountAttr{Attr_set: noSuid | noDev | noExec})
	c.Do(attempt, unix.SYS_MOUNT_SETATTR, mount, empty, unix.AT_EMPTY_PATH, attr, unsafe.Sizeof(unix.MountAttr{}))
	c.putProc(attempt, mount, place)
	c.Do(attempt, unix.SYS_CLOSE, first)
	return mount
}

// putProc attaches the mount in the tree.
func (c *steps) putProc(attempt string, mount, place uintptr) {
	how := launch.Pointer(c.Program, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	empty := c.String("")
	c.Do("open /proc of the image as a directory", unix.SYS_OPENAT2, childRoot, c.String("proc"), how, unix.SizeofOpenHow)
	c.Do(attempt, unix.SYS_MOVE_MOUNT, mount, empty, place, empty, emptyPaths)
	c.Do(attempt, unix.SYS_CLOSE, place)
}

// coverProcesses puts an empty directory over each process that is not the step's. The
// step cannot take it away, and it goes when the process does.
func (c *steps) coverProcesses() {
	const proc, mount = childFree + 1, childFree
	empty := c.String("")
	for _, pid := range c.strangers {
		const attempt = "hide processes in /proc"
		c.Do(attempt, unix.SYS_OPEN_TREE, childVoid, empty, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		c.Try(unix.SYS_MOVE_MOUNT, mount, empty, proc, c.String(pid), unix.MOVE_MOUNT_F_EMPTY_PATH) // it may have ended
		c.Do(attempt, unix.SYS_CLOSE, mount)
	}
}
