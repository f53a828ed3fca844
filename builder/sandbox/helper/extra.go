package helper

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// made is a mount of the request that is not attached to the tree yet.
type made struct {
	mount int // -1 once it is attached
	file  bool
}

// makeMounts makes the mounts that the request asks for. What they show decides
// which mount points the tree needs, so they come before it.
func (t *tree) makeMounts() error {
	for _, m := range t.req.Mounts {
		fd, err := t.make(m)
		if err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		t.made = append(t.made, made{fd, st.Mode&unix.S_IFMT != unix.S_IFDIR})
		if err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
	}
	return nil
}

// attachMounts puts them into the tree, in order.
func (t *tree) attachMounts() error {
	for i, m := range t.req.Mounts {
		if err := t.attachExtra(m.Target, &t.made[i]); err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
	}
	return nil
}

// dropMounts lets go of what was never attached.
func (t *tree) dropMounts() {
	for _, m := range t.made {
		if m.mount >= 0 {
			unix.Close(m.mount)
		}
	}
	t.made = nil
}

func (t *tree) attachExtra(target string, m *made) error {
	clean, found, err := resolve(t.root, target)
	switch {
	case err != nil:
		return err
	case clean == "":
		return fmt.Errorf("the root directory cannot be mounted on: %w", unix.EINVAL)
	case clean == "proc" || strings.HasPrefix(clean, "proc/"):
		return fmt.Errorf("/proc cannot be mounted on: %w", unix.EINVAL)
	}
	if !found {
		// Below another mount: nothing of the image.
		if err := t.makeIn(clean, m.file); err != nil {
			return err
		}
	}
	mount := m.mount
	m.mount = -1
	return t.place(mount, clean)
}

// make returns the unattached mount.
func (t *tree) make(m Mount) (int, error) {
	attributes := uint64(noDev)
	if m.ReadOnly {
		attributes |= readOnly
	}
	switch m.Type {
	case "tmpfs":
		options := []option{{"mode", strconv.FormatInt(m.Mode, 8)}}
		if m.Size > 0 {
			options = append(options, option{"size", strconv.FormatInt(m.Size, 10)})
		}
		return newFS("tmpfs", int(attributes)|noSuid, options...)
	case "file":
		return t.makeFile(m)
	case "overlay":
		return t.makeOverlay(m, attributes)
	}
	fd, err := cloneBind(m)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", m.Source, err)
	}
	return limited(fd, attributes)
}

// limited sets attributes on a mount, which it closes if that fails.
func limited(fd int, attributes uint64) (int, error) {
	if err := setAttributes(fd, attributes, unix.AT_RECURSIVE); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func cloneBind(m Mount) (int, error) {
	source, err := openSource(m)
	if err != nil {
		return -1, err
	}
	defer unix.Close(source)
	if m.Subpath == "" {
		return cloneTree(source, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	}
	return cloneTree(source, "", unix.AT_EMPTY_PATH)
}

// openSource opens what a bind shows. The source itself is no link: a command may have
// written what lies there.
func openSource(m Mount) (int, error) {
	fd, err := unix.Open(m.Source, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = unix.ELOOP
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	if m.Subpath == "" {
		return fd, nil
	}
	defer unix.Close(fd)
	part, err := open(fd, m.Subpath, unix.O_PATH)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", m.Subpath, err)
	}
	return part, nil
}

// cloneBelow makes an unattached copy of a mount at a path inside root. What
// lies there may be foreign, and may be changed by another command meanwhile.
func cloneBelow(root int, path string) (int, error) {
	fd, err := open(root, path, unix.O_PATH)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	return cloneTree(fd, "", unix.AT_EMPTY_PATH)
}

// makeOverlay mounts an overlay where only this step's namespace sees it, and
// clones what is wanted of it.
func (t *tree) makeOverlay(m Mount, attributes uint64) (int, error) {
	place, err := t.private()
	if err != nil {
		return -1, err
	}
	l := layers{append(m.Lowers[:len(m.Lowers):len(m.Lowers)], scratchVoid), m.Upper, m.Work, t.req.OptionText}
	if m.Upper == "" && len(m.Lowers) == 0 {
		fd, err := cloneTree(unix.AT_FDCWD, scratchVoid, 0)
		if err != nil {
			return -1, err
		}
		return limited(fd, attributes)
	}
	fd, attached, err := l.mount(place)
	if err != nil {
		return -1, err
	}
	if m.Subpath == "" && !attached {
		return limited(fd, attributes)
	}
	defer unix.Close(fd)
	if !attached {
		if err := unix.MoveMount(fd, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return -1, err
		}
	}
	defer unix.Unmount(place, unix.MNT_DETACH)
	path := m.Subpath
	if path == "" {
		path = "."
	}
	clone, err := cloneBelow(fd, path)
	if err != nil {
		return -1, err
	}
	return limited(clone, attributes)
}

// private makes an empty folder of the helper's for this step.
func (t *tree) private() (string, error) {
	name := scratch + "/private" + strconv.FormatInt(t.s.serial.Add(1), 10)
	t.gone = append(t.gone, name)
	return name, os.Mkdir(name, 0o700)
}

// makeFile writes a file to a file system in memory that this step alone sees.
func (t *tree) makeFile(m Mount) (int, error) {
	if t.memory == "" {
		place, err := t.private()
		if err != nil {
			return -1, err
		}
		fs, err := newFS("tmpfs", noSuid|noDev, option{"mode", "700"})
		if err != nil {
			return -1, err
		}
		defer unix.Close(fs)
		if err := unix.MoveMount(fs, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return -1, err
		}
		t.memory = place
	}
	name := t.memory + "/" + strconv.FormatInt(t.s.serial.Add(1), 10)
	if err := writeFile(name, m); err != nil {
		return -1, err
	}
	fd, err := cloneTree(unix.AT_FDCWD, name, 0)
	if err != nil {
		return -1, err
	}
	attributes := uint64(noSuid | noDev)
	if m.ReadOnly {
		attributes |= readOnly
	}
	if m.Mode&0o111 == 0 {
		attributes |= noExec
	}
	return limited(fd, attributes)
}

func writeFile(name string, m Mount) error {
	if err := os.WriteFile(name, []byte(m.Data), 0o600); err != nil {
		return err
	}
	if err := os.Chown(name, int(m.UID), int(m.GID)); err != nil {
		return err
	}
	return unix.Chmod(name, uint32(m.Mode)&0o7777)
}
