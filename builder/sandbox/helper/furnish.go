package helper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"

	"github.com/cairn-build/cairn/layer/tarball"
	"golang.org/x/sys/unix"
)

// furnish lays into the tree what a step has mounted where mounts are granted. What
// was there before lies aside meanwhile.
func (k *keeper) furnish() error {
	if err := os.MkdirAll(k.aside, 0o700); err != nil {
		return err
	}
	if err := k.put("dev", k.dev); err != nil {
		return fmt.Errorf("prepare /dev: %w", err)
	}
	if err := k.put("proc", k.proc); err != nil {
		return fmt.Errorf("prepare /proc: %w", err)
	}
	for _, f := range [][2]string{{"etc/hosts", k.req.HostsFile}, {"etc/resolv.conf", k.req.ResolvConf}} {
		if err := k.put(f[0], text(f[1], 0o644, 0, 0)); err != nil {
			return fmt.Errorf("prepare /%s: %w", f[0], err)
		}
	}
	for _, m := range k.req.Mounts {
		if err := k.mount(m); err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
	}
	return nil
}

// restore takes everything out again, the last first.
func (k *keeper) restore() (err error) {
	for i := len(k.undo) - 1; i >= 0; i-- {
		err = errors.Join(err, k.undo[i]())
	}
	return errors.Join(err, os.RemoveAll(k.aside))
}

// maker makes a name in an open directory.
type maker func(dir int, name string) error

// put makes something at a path of the tree, links followed. No time of a directory
// shows that it was there.
func (k *keeper) put(target string, make maker) error {
	clean, _, err := resolve(k.root, target)
	if err != nil {
		return err
	}
	if clean == "" {
		return fmt.Errorf("the root directory cannot be mounted on: %w", unix.EINVAL)
	}
	above := stubs{root: k.root, touched: &k.touched}
	err = above.parents(path.Dir(clean))
	for _, undo := range above.undo {
		k.undo = append(k.undo, func() error { undo(); return nil })
	}
	if err != nil {
		return err
	}
	dir, err := openClean(k.root, path.Dir(clean), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	k.touched.add(clean, path.Dir(clean))
	name := path.Base(clean)
	old := k.aside + "/" + strconv.Itoa(len(k.undo))
	return timeless(dir, func() error {
		err := unix.Renameat(dir, name, unix.AT_FDCWD, old)
		if err != nil && err != unix.ENOENT {
			return err
		}
		there := err == nil
		k.undo = append(k.undo, func() error {
			defer unix.Close(dir)
			return timeless(dir, func() error {
				if err := removeAll(dir, name); err != nil || !there {
					return err
				}
				return unix.Renameat(unix.AT_FDCWD, old, dir, name)
			})
		})
		return make(dir, name)
	})
}

// pathOf is a path to what is open.
func pathOf(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func removeAll(dir int, base string) error { return os.RemoveAll(pathOf(dir) + "/" + base) }

// text makes a file.
func text(data string, mode uint32, uid, gid int64) maker {
	return func(dir int, base string) error {
		fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), base)
		defer f.Close()
		if _, err := f.WriteString(data); err != nil {
			return err
		}
		return errors.Join(f.Chown(int(uid), int(gid)), unix.Fchmod(fd, mode))
	}
}

// folder makes a directory and fills it.
func folder(mode uint32, fill func(dir int) error) maker {
	return func(at int, base string) error {
		if err := unix.Mkdirat(at, base, mode&0o777); err != nil {
			return err
		}
		fd, err := unix.Openat(at, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Fchmod(fd, mode); err != nil {
			return err
		}
		return fill(fd)
	}
}

func nothing(int) error { return nil }

// dev makes the usual devices, as far as they can be made and opened here.
func (k *keeper) dev(at int, base string) error {
	return folder(0o755, func(dir int) error {
		for _, d := range devices() {
			if err := deviceIn(dir, d); err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
		}
		for _, l := range [][2]string{
			{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"},
		} {
			if err := unix.Symlinkat(l[1], dir, l[0]); err != nil {
				return err
			}
		}
		for _, out := range []*os.File{os.Stdout, os.Stderr} {
			if err := k.pump(dir, path.Base(out.Name()), out); err != nil {
				return err
			}
		}
		return folder(0o1777, nothing)(dir, "shm")
	})(at, base)
}

// deviceIn makes a device. Where that is not granted, null is an empty file that takes
// what is written to it, and the others are not there.
func deviceIn(dir int, d device) error {
	err := unix.Mknodat(dir, d.name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor)))
	if err == nil {
		fd, openErr := unix.Openat(dir, d.name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if openErr == nil || d.name == "tty" {
			unix.Close(fd)
			return nil
		}
		if err := unix.Unlinkat(dir, d.name, 0); err != nil {
			return err
		}
	} else if !errors.Is(err, unix.EPERM) {
		return err
	}
	if d.name != "null" {
		return nil
	}
	return text("", 0o666, 0, 0)(dir, d.name)
}

// proc makes a /proc of copies: what tells of the machine, and nothing of processes.
func (k *keeper) proc(at int, base string) error {
	return folder(0o555, func(dir int) error {
		for _, name := range []string{"cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version"} {
			data, err := os.ReadFile("/proc/" + name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = text(string(data), 0o444, 0, 0)(dir, name)
			}
			if err != nil {
				return err
			}
		}
		return text("cairn / rootfs rw 0 0\n", 0o444, 0, 0)(dir, "mounts")
	})(at, base)
}

// mount lays in what the request asks for.
func (k *keeper) mount(m Mount) error {
	switch m.Type {
	case "tmpfs":
		mode := uint32(m.Mode)
		return k.put(m.Target, folder(mode, nothing))
	case "file":
		return k.put(m.Target, text(m.Data, uint32(m.Mode), m.UID, m.GID))
	case "bind":
		return k.bind(m)
	}
	return fmt.Errorf("type %s needs the right to mount", m.Type)
}

// bind copies a file or directory that is only read. A directory that is written to is
// moved in and out, which keeps what the step has done there.
func (k *keeper) bind(m Mount) error {
	source, err := openSource(m)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Source, err)
	}
	k.undo = append(k.undo, func() error { return unix.Close(source) })
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return err
	}
	if !m.ReadOnly || st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return k.move(m, source)
	}
	return k.put(m.Target, func(dir int, base string) error { return copyTo(dir, base, source) })
}

// copyTo copies what is open.
func copyTo(dir int, base string, source int) error {
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return folder(0o700, func(fd int) error { return tarball.Lay(pathOf(fd), pathOf(source)) })(dir, base)
	case unix.S_IFREG:
		in, err := os.Open(pathOf(source))
		if err != nil {
			return err
		}
		defer in.Close()
		return tarball.CopyFile(dir, base, in)
	}
	return fmt.Errorf("neither a file nor a directory: %w", unix.EINVAL)
}

// move renames a folder into the tree, and back when the step has ended.
func (k *keeper) move(m Mount, source int) error {
	from, err := os.Readlink(pathOf(source))
	if err != nil {
		return err
	}
	var at int
	var base string
	err = k.put(m.Target, func(dir int, name string) error {
		at, base = dir, name
		if err := k.noteMove(from, source, dir, name); err != nil {
			return err
		}
		return unix.Renameat(unix.AT_FDCWD, from, dir, name)
	})
	if err != nil {
		return fmt.Errorf("without the right to mount, what is written to is moved into the tree, and %s cannot be: %w", m.Source, err)
	}
	k.undo = append(k.undo, func() error {
		// Whatever else lies there now, a link above all, must not get outside.
		if !isAt(at, base, source) {
			return fmt.Errorf("the command has moved or replaced what is mounted on %s", m.Target)
		}
		return unix.Renameat(at, base, unix.AT_FDCWD, from)
	})
	return nil
}

// noteMove notes that what is open is about to be moved to a name in a directory.
func (k *keeper) noteMove(from string, source, dir int, name string) error {
	at, err := os.Readlink(pathOf(dir))
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return err
	}
	return k.note(moved{Source: from, Target: at + "/" + name, Dev: st.Dev, Ino: st.Ino})
}

// isAt tells whether a name in an open directory is what is open.
func isAt(dir int, name string, fd int) bool {
	var a, b unix.Stat_t
	return unix.Fstatat(dir, name, &a, unix.AT_SYMLINK_NOFOLLOW) == nil && unix.Fstat(fd, &b) == nil &&
		a.Dev == b.Dev && a.Ino == b.Ino
}
