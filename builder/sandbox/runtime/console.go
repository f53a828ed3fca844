package runtime

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/mount"
	"golang.org/x/sys/unix"
)

const consoleName = "console"

// nameTerminal mounts the terminal of a command on /dev/console, since its own name is in
// the caller's /dev/pts: ttyname(3) finds a name then. It reports whether it did; without
// a name in this process's /dev the command has a terminal without one.
func (t *tree) nameTerminal(terminal int) (bool, error) {
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(terminal))
	if err != nil || !filepath.IsAbs(path) {
		return false, nil
	}
	fd, err := mount.Clone(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return false, nil
	}
	defer unix.Close(fd)
	var want, have unix.Stat_t
	if err := unix.Fstat(terminal, &want); err != nil {
		return false, err
	}
	if err := unix.Fstat(fd, &have); err != nil {
		return false, err
	}
	if want.Dev != have.Dev || want.Ino != have.Ino || want.Rdev != have.Rdev {
		return false, nil
	}
	if err := unix.Mknodat(t.dev, consoleName, unix.S_IFREG|0o600, 0); err != nil {
		return false, err
	}
	return true, mount.AttachAt(fd, t.dev, consoleName)
}

// openTerminal opens the terminal by its name in the tree, as the standard streams.
func (c *child) openTerminal() {
	const attempt = "open the terminal"
	const opened = 3 // the lowest free descriptor
	console := c.String("/dev/" + consoleName)
	at := unix.AT_FDCWD
	c.Do(attempt, unix.SYS_OPENAT, uintptr(at), console, unix.O_RDWR|unix.O_NOCTTY, 0)
	for stream := range uintptr(3) {
		c.Do(attempt, unix.SYS_DUP3, opened, stream, 0)
	}
	c.Do(attempt, unix.SYS_CLOSE, opened)
}
