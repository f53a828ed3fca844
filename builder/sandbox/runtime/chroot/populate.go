package chroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/inroot"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/plaintree"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	layertree "github.com/cairn-build/cairn/layer/tree"
	"golang.org/x/sys/unix"
)

// populate puts files into the tree in place of the mounts that a step has in
// namespaces. Existing entries are moved aside.
func (s *supervisor) populate() error {
	if err := os.MkdirAll(s.aside, 0o700); err != nil {
		return err
	}
	if err := s.put("dev", s.createDev); err != nil {
		return fmt.Errorf("prepare /dev: %w", err)
	}
	if err := s.put("proc", s.createProc); err != nil {
		return fmt.Errorf("prepare /proc: %w", err)
	}
	for _, f := range [][2]string{{"etc/hosts", s.req.HostsFile}, {"etc/resolv.conf", s.req.ResolvConf}} {
		if f[0] == "etc/hosts" && s.req.NoHosts {
			continue
		}
		if err := s.put(f[0], file(f[1], 0o644, 0, 0)); err != nil {
			return fmt.Errorf("prepare /%s: %w", f[0], err)
		}
	}
	for _, m := range s.req.Mounts {
		if err := s.mount(m); err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
	}
	return nil
}

// creator creates an entry in an open directory.
type creator func(dir int, name string) error

// put replaces the entry at a path of the tree until Undo.
func (s *supervisor) put(target string, create creator) error {
	return s.Replace(target, s.aside+"/"+strconv.Itoa(s.Changes()), create)
}

// file returns a creator of a file.
func file(data string, mode uint32, uid, gid int64) creator {
	return func(dir int, name string) error {
		fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), name)
		defer f.Close()
		if _, err := f.WriteString(data); err != nil {
			return err
		}
		return errors.Join(f.Chown(int(uid), int(gid)), unix.Fchmod(fd, mode))
	}
}

// directory returns a creator of a directory with entries that fill makes. A nil fill
// makes none.
func directory(mode uint32, fill func(dir int) error) creator {
	return func(parent int, name string) error {
		if err := unix.Mkdirat(parent, name, mode&0o777); err != nil {
			return err
		}
		fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Fchmod(fd, mode); err != nil || fill == nil {
			return err
		}
		return fill(fd)
	}
}

// createDev creates /dev with the usual devices.
func (s *supervisor) createDev(parent int, name string) error {
	return directory(0o755, func(dir int) error {
		for _, d := range step.Devices() {
			if err := createDevice(dir, d); err != nil {
				return fmt.Errorf("%s: %w", d.Name, err)
			}
		}
		if err := s.nameStreams(dir); err != nil {
			return err
		}
		return directory(0o1777, nil)(dir, "shm")
	})(parent, name)
}

// createDevice creates a device node and opens it. If that fails, there is no substitute:
// the output that a step writes to an ordinary file in place of /dev/null would stay, be
// read again, and get into files of the image.
func createDevice(dir int, d step.Device) error {
	err := unix.Mknodat(dir, d.Name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.Major, d.Minor)))
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("make the device node: %w: the process needs CAP_MKNOD "+
			"(in a pod: securityContext.capabilities.add: [MKNOD]), outside of user namespaces", err)
	}
	if err != nil {
		return fmt.Errorf("make the device node: %w", err)
	}
	fd, err := unix.Openat(dir, d.Name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return unix.Close(fd)
	case d.Name == "tty" && err == unix.ENXIO: // the process has no terminal
		return nil
	}
	return fmt.Errorf("open the device: %w: the store's file system must not be mounted with the option nodev (--root), "+
		"and the container's device rules must allow it", err)
}

// createProc creates a /proc of copied files about the machine. It has no processes, only
// the names of the standard streams.
func (s *supervisor) createProc(parent int, name string) error {
	return directory(0o555, func(dir int) error {
		for _, name := range []string{"cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version"} {
			data, err := os.ReadFile("/proc/" + name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = file(string(data), 0o444, 0, 0)(dir, name)
			}
			if err != nil {
				return err
			}
		}
		if err := s.nameInProc(dir); err != nil {
			return err
		}
		return file("cairn / rootfs rw 0 0\n", 0o444, 0, 0)(dir, "mounts")
	})(parent, name)
}

// mount puts the files of a requested mount into the tree.
func (s *supervisor) mount(m wire.Mount) error {
	switch m.Type {
	case "tmpfs":
		return s.put(m.Target, directory(uint32(m.Mode), nil))
	case "file":
		return s.put(m.Target, file(m.Data, uint32(m.Mode), m.UID, m.GID))
	case "bind":
		return s.bind(m)
	}
	return fmt.Errorf("mounts of type %s need the right to mount", m.Type)
}

// bind copies a read-only source into the tree. It moves a writable directory into the
// tree and later back, which keeps the command's changes, and a socket too.
func (s *supervisor) bind(m wire.Mount) error {
	source, err := inroot.OpenSource(m.Source, m.Subpath)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Source, err)
	}
	s.OnUndo(func() error { return unix.Close(source) })
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return err
	}
	if !m.ReadOnly || st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return s.move(m, source)
	}
	return s.put(m.Target, func(dir int, name string) error { return copyTo(dir, name, source) })
}

// copyTo copies an open file or directory to a name in an open directory.
func copyTo(dir int, name string, source int) error {
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return directory(0o700, func(fd int) error {
			return layertree.Lay(plaintree.PathOf(fd), plaintree.PathOf(source))
		})(dir, name)
	case unix.S_IFREG:
		in, err := os.Open(plaintree.PathOf(source))
		if err != nil {
			return err
		}
		defer in.Close()
		return layertree.CopyFile(dir, name, in)
	}
	return fmt.Errorf("the source is neither a file nor a directory: %w", unix.EINVAL)
}

// move renames the open source of a mount into the tree. Undo renames it back.
func (s *supervisor) move(m wire.Mount, source int) error {
	from, err := os.Readlink(plaintree.PathOf(source))
	if err != nil {
		return err
	}
	var parent int
	var base string
	err = s.put(m.Target, func(dir int, name string) error {
		parent, base = dir, name
		if err := s.noteMove(from, source, dir, name); err != nil {
			return err
		}
		return unix.Renameat(unix.AT_FDCWD, from, dir, name)
	})
	if err != nil {
		return fmt.Errorf("move %s into the tree, which replaces a writable mount: %w", m.Source, err)
	}
	s.OnUndo(func() error {
		// A replacement, such as a link, must not be moved out of the tree.
		if !isAt(parent, base, source) {
			return fmt.Errorf("the command has moved or replaced the mount on %s", m.Target)
		}
		return unix.Renameat(parent, base, unix.AT_FDCWD, from)
	})
	return nil
}

// noteMove writes the note that an open file is about to be moved to a name in a
// directory.
func (s *supervisor) noteMove(from string, source, dir int, name string) error {
	parent, err := os.Readlink(plaintree.PathOf(dir))
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return err
	}
	return s.note(moved{Source: from, Target: parent + "/" + name, Dev: st.Dev, Ino: st.Ino})
}

// isAt reports whether a name in an open directory is an open file.
func isAt(dir int, name string, fd int) bool {
	var a, b unix.Stat_t
	return unix.Fstatat(dir, name, &a, unix.AT_SYMLINK_NOFOLLOW) == nil && unix.Fstat(fd, &b) == nil &&
		a.Dev == b.Dev && a.Ino == b.Ino
}
