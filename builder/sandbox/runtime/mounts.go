package runtime

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/inroot"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/mount"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/plaintree"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

// pendingMount is a mount of the request that is not attached to the tree yet.
type pendingMount struct {
	fd   int // -1 once it is attached
	file bool
}

// makeMounts makes the mounts of the request. This comes before the mount points of the
// tree, whose types depend on the mounts on them.
func (t *tree) makeMounts() error {
	for _, m := range t.req.Mounts {
		fd, err := t.makeMount(m)
		if err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		t.pending = append(t.pending, pendingMount{fd, st.Mode&unix.S_IFMT != unix.S_IFDIR})
		if err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
	}
	return nil
}

// attachMounts attaches the mounts of the request, in order.
func (t *tree) attachMounts() error {
	for i, m := range t.req.Mounts {
		if err := t.attachPending(m.Target, &t.pending[i]); err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, err)
		}
	}
	return nil
}

// closePending closes the mounts that were not attached.
func (t *tree) closePending() {
	for _, m := range t.pending {
		if m.fd >= 0 {
			unix.Close(m.fd)
		}
	}
	t.pending = nil
}

func (t *tree) attachPending(target string, m *pendingMount) error {
	clean, found, err := inroot.Resolve(t.root, target)
	if err == nil {
		err = checkTarget(clean)
	}
	if err != nil {
		return err
	}
	if !found {
		// The target is inside another mount, so this does not change the image.
		if err := t.addMountPoint(plaintree.MountPoint{Path: clean, File: m.file}); err != nil {
			return err
		}
	}
	if err := checkKind(t.root, clean, m.file); err != nil {
		return err
	}
	fd := m.fd
	m.fd = -1
	return t.attach(fd, clean)
}

// checkKind returns an error if a directory would be mounted on a file, or a file on a
// directory, which the kernel calls invalid arguments.
func checkKind(root int, clean string, file bool) error {
	var st unix.Stat_t
	if err := unix.Fstatat(root, clean, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil // the mount fails with a better error
	}
	switch isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR; {
	case isDir && file:
		return fmt.Errorf("%w: the target is a directory, and a file cannot be mounted on it: choose another target", unix.EISDIR)
	case !isDir && !file:
		return fmt.Errorf("%w: the target is a file, and a directory cannot be mounted on it: choose another target", unix.ENOTDIR)
	}
	return nil
}

// checkTarget returns an error for a resolved path that cannot be a mount point.
func checkTarget(clean string) error {
	switch {
	case clean == "":
		return fmt.Errorf("the root directory cannot be a mount point: %w", unix.EINVAL)
	case clean == "proc" || strings.HasPrefix(clean, "proc/"):
		return fmt.Errorf("/proc cannot be a mount point: %w", unix.EINVAL)
	}
	return nil
}

// makeMount returns an unattached mount.
func (t *tree) makeMount(m wire.Mount) (int, error) {
	switch m.Type {
	case "tmpfs":
		return mount.New("tmpfs", attributes(m), tmpfsOptions(m)...)
	case "file":
		return t.makeFile(m)
	case "overlay":
		return t.makeOverlay(m)
	}
	fd, err := cloneBind(m)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", m.Source, err)
	}
	return mount.Restrict(fd, uint64(attributes(m)))
}

// attributes returns the attributes of a requested mount.
func attributes(m wire.Mount) int {
	attributes := mount.NoDev
	if m.Type == "tmpfs" || m.Type == "file" {
		attributes |= mount.NoSuid
	}
	if m.Type == "file" && m.Mode&0o111 == 0 {
		attributes |= mount.NoExec
	}
	if m.ReadOnly {
		attributes |= mount.ReadOnly
	}
	return attributes
}

func tmpfsOptions(m wire.Mount) []mount.Option {
	options := []mount.Option{{Key: "mode", Value: strconv.FormatInt(m.Mode, 8)}}
	if m.Size > 0 {
		options = append(options, mount.Option{Key: "size", Value: strconv.FormatInt(m.Size, 10)})
	}
	return options
}

func cloneBind(m wire.Mount) (int, error) {
	source, err := inroot.OpenSource(m.Source, m.Subpath)
	if err != nil {
		return -1, err
	}
	defer unix.Close(source)
	if m.Subpath == "" {
		return mount.Clone(source, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	}
	return mount.Clone(source, "", unix.AT_EMPTY_PATH)
}

// cloneBelow makes an unattached copy of the mount at a path below root. The files there
// may be foreign, and another command may be changing them.
func cloneBelow(root int, path string) (int, error) {
	fd, err := inroot.Open(root, path, unix.O_PATH)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	return mount.Clone(fd, "", unix.AT_EMPTY_PATH)
}

// makeOverlay mounts an overlay and returns an unattached mount of it or of its subpath.
func (t *tree) makeOverlay(m wire.Mount) (int, error) {
	dir, err := t.privateDir()
	if err != nil {
		return -1, err
	}
	attributes := uint64(attributes(m))
	if m.Upper == "" && len(m.Lowers) == 0 {
		fd, err := mount.Clone(unix.AT_FDCWD, scratchVoid, 0)
		if err != nil {
			return -1, err
		}
		return mount.Restrict(fd, attributes)
	}
	// The empty directory makes two layers of one, which overlayfs requires without an
	// upper directory.
	o := t.overlay(append(m.Lowers[:len(m.Lowers):len(m.Lowers)], scratchVoid), m.Upper, m.Work)
	fd, attached, err := o.Mount(dir)
	if err != nil {
		return -1, err
	}
	if m.Subpath == "" && !attached {
		return mount.Restrict(fd, attributes)
	}
	defer unix.Close(fd)
	if !attached {
		if err := mount.AttachAt(fd, unix.AT_FDCWD, dir); err != nil {
			return -1, err
		}
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := m.Subpath
	if path == "" {
		path = "."
	}
	clone, err := cloneBelow(fd, path)
	if err != nil {
		return -1, err
	}
	return mount.Restrict(clone, attributes)
}

// privateDir makes an empty directory for this step in the scratch file system.
func (t *tree) privateDir() (string, error) {
	name := t.temporaryName("private")
	return name, os.Mkdir(name, 0o700)
}

// makeFile writes a file to a tmpfs that only this step sees, and returns a mount of it.
func (t *tree) makeFile(m wire.Mount) (int, error) {
	if t.memory == "" {
		dir, err := t.privateDir()
		if err != nil {
			return -1, err
		}
		fs, err := mount.New("tmpfs", mount.NoSuid|mount.NoDev, mount.Option{Key: "mode", Value: "700"})
		if err != nil {
			return -1, err
		}
		defer unix.Close(fs)
		if err := mount.AttachAt(fs, unix.AT_FDCWD, dir); err != nil {
			return -1, err
		}
		t.memory = dir
	}
	name := t.memory + "/" + strconv.FormatInt(t.s.serial.Add(1), 10)
	if err := writeFile(name, m); err != nil {
		return -1, err
	}
	fd, err := mount.Clone(unix.AT_FDCWD, name, 0)
	if err != nil {
		return -1, err
	}
	return mount.Restrict(fd, uint64(attributes(m)))
}

func writeFile(name string, m wire.Mount) error {
	if err := os.WriteFile(name, []byte(m.Data), 0o600); err != nil {
		return err
	}
	if err := os.Chown(name, int(m.UID), int(m.GID)); err != nil {
		return err
	}
	return unix.Chmod(name, uint32(m.Mode)&0o7777)
}
