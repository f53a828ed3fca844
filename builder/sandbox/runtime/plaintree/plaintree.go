// Package plaintree makes mount points in directory trees, and temporary changes in
// plain trees: trees that a step works in as they are, without an overlay.
//
// A plain tree is compared with an earlier state after the step. A temporary change must
// therefore be undone completely, including the times of directories. Only the ctime of
// a changed directory cannot be restored, so the paths are reported as touched.
package plaintree

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/inroot"
	"golang.org/x/sys/unix"
)

// MountPoint is an empty directory or file to mount something on.
type MountPoint struct {
	Path string // relative
	File bool
}

// Usual returns the mount points of every step.
func Usual() []MountPoint {
	return append(WithoutHosts(), MountPoint{"etc/hosts", true})
}

// WithoutHosts returns the mount points of a step whose /etc/hosts is the image's.
func WithoutHosts() []MountPoint {
	return []MountPoint{{"dev", false}, {"proc", false}, {"sys", false}, {"etc/resolv.conf", true}}
}

// MakeUsual makes the usual mount points in a folder.
func MakeUsual(dir string) error { return MakeAll(dir, Usual()) }

// MakeAll makes mount points in a folder.
func MakeAll(dir string, points []MountPoint) error {
	for _, m := range points {
		if err := m.Make(dir); err != nil {
			return fmt.Errorf("make mount points: %w", err)
		}
	}
	return nil
}

// Make makes the mount point and its parents in a folder, unless they exist.
func (m MountPoint) Make(folder string) error {
	full := folder + "/" + m.Path
	if !m.File {
		return os.MkdirAll(full, 0o755)
	}
	if err := os.MkdirAll(path.Dir(full), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(full, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// Missing returns the mount points that do not exist in the tree at root, with their
// links resolved. It leaves out those below an earlier mount point, which are made in its
// mount.
func Missing(root int, wanted []MountPoint) (missing []MountPoint, err error) {
	var covered []string
	for _, m := range wanted {
		clean, found, err := inroot.Resolve(root, m.Path)
		if err != nil {
			return nil, err
		}
		if !found && !isBelow(clean, covered) {
			missing = append(missing, MountPoint{clean, m.File})
		}
		covered = append(covered, clean)
	}
	return missing, nil
}

// isBelow reports whether a path is below one of the folders.
func isBelow(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(path, f+"/") })
}

// Editor makes temporary changes in a plain tree. Its zero value with a Root is ready.
type Editor struct {
	Root int // descriptor of the tree

	undo    []func() error
	touched strings.Builder
}

// OnUndo adds a function that Undo calls.
func (e *Editor) OnUndo(f func() error) { e.undo = append(e.undo, f) }

// Changes returns the number of functions that Undo would call.
func (e *Editor) Changes() int { return len(e.undo) }

// Undo undoes all changes, the last first, and returns the errors of all.
func (e *Editor) Undo() (err error) {
	for _, undo := range slices.Backward(e.undo) {
		err = errors.Join(err, undo())
	}
	e.undo = nil
	return err
}

// Touch notes that paths were changed, and will be restored but for their ctime.
func (e *Editor) Touch(paths ...string) {
	for _, p := range paths {
		e.touched.WriteString(p + "\x00")
	}
}

// Touched returns the noted paths, each followed by a zero byte.
func (e *Editor) Touched() string { return e.touched.String() }

// AddMountPoint makes a mount point and its missing parents. Undo removes those that are
// empty then.
func (e *Editor) AddMountPoint(m MountPoint) error {
	if err := e.AddDirs(path.Dir(m.Path)); err != nil {
		return err
	}
	if !m.File {
		return e.addDir(m.Path)
	}
	return e.add(m.Path, 0, func(dir int, name string) error {
		return unix.Mknodat(dir, name, unix.S_IFREG|0o644, 0)
	})
}

// AddDirs makes the missing directories of a path without links.
func (e *Editor) AddDirs(clean string) error {
	if clean == "." {
		return nil
	}
	if fd, err := inroot.OpenClean(e.Root, clean, unix.O_PATH|unix.O_DIRECTORY); err != unix.ENOENT {
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	if err := e.AddDirs(path.Dir(clean)); err != nil {
		return err
	}
	return e.addDir(clean)
}

func (e *Editor) addDir(clean string) error {
	return e.add(clean, unix.AT_REMOVEDIR, func(dir int, name string) error { return unix.Mkdirat(dir, name, 0o755) })
}

// add creates an entry that Undo removes by unlinkat(2) with some flags.
func (e *Editor) add(clean string, flags int, create func(dir int, name string) error) error {
	dir, err := inroot.OpenClean(e.Root, path.Dir(clean), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	e.Touch(path.Dir(clean))
	name := path.Base(clean)
	e.OnUndo(func() error {
		defer unix.Close(dir)
		// The command may have put something there: it stays.
		_ = KeepTimes(dir, func() error { return unix.Unlinkat(dir, name, flags) })
		return nil
	})
	return KeepTimes(dir, func() error { return create(dir, name) })
}

// Replace creates an entry at a path of the tree. It moves an existing entry to the path
// aside, which must be on the same file system. Links in the target are followed.
// Undo removes the new entry and moves the old one back.
func (e *Editor) Replace(target, aside string, create func(dir int, name string) error) error {
	clean, _, err := inroot.Resolve(e.Root, target)
	if err != nil {
		return err
	}
	if clean == "" {
		return fmt.Errorf("the root directory cannot be a mount point: %w", unix.EINVAL)
	}
	if err := e.AddDirs(path.Dir(clean)); err != nil {
		return err
	}
	dir, err := inroot.OpenClean(e.Root, path.Dir(clean), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	e.Touch(clean, path.Dir(clean))
	r := &replacement{dir: dir, name: path.Base(clean), aside: aside}
	e.OnUndo(func() error {
		defer unix.Close(dir)
		return KeepTimes(dir, r.putBack)
	})
	return KeepTimes(dir, func() error {
		if err := r.moveAside(); err != nil {
			return err
		}
		return create(dir, r.name)
	})
}

// replacement is a name in an open directory whose old entry is moved aside.
type replacement struct {
	dir         int
	name, aside string
	began       bool // an error before that leaves everything as it was
	existed     bool
}

func (r *replacement) moveAside() error {
	err := unix.Renameat(r.dir, r.name, unix.AT_FDCWD, r.aside)
	if err != nil && err != unix.ENOENT {
		return err
	}
	r.began, r.existed = true, err == nil
	return nil
}

func (r *replacement) putBack() error {
	if !r.began {
		return nil
	}
	if err := os.RemoveAll(PathOf(r.dir) + "/" + r.name); err != nil || !r.existed {
		return err
	}
	return unix.Renameat(unix.AT_FDCWD, r.aside, r.dir, r.name)
}

// PathOf returns a path to an open file.
func PathOf(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// KeepTimes calls a function that changes a directory, and restores the times of the
// directory.
func KeepTimes(dir int, change func() error) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	err := change()
	times := []unix.Timespec{st.Atim, st.Mtim}
	return errors.Join(err, unix.UtimesNanoAt(dir, "", times, unix.AT_EMPTY_PATH))
}
