package runtime

import (
	"fmt"
	"os"
	"path"
	"strconv"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/inroot"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/mount"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/plaintree"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

// tree is the root directory of a step while it is assembled.
type tree struct {
	s         *server
	req       *wire.Request
	root      int // the mount of the tree
	dev       int // the mount on /dev
	empty     int // an empty directory
	pending   []pendingMount
	temporary []string         // files and folders of this step, removed in the end
	plain     plaintree.Editor // changes of a plain tree
	memory    string           // mount point of a tmpfs for this step, "" for none
}

// newTree returns a tree without mounts.
func (s *server) newTree(req *wire.Request) *tree {
	return &tree{s: s, req: req, root: -1, dev: -1, empty: -1, plain: plaintree.Editor{Root: -1}}
}

// mount mounts everything but /proc, which can only be mounted from inside the process
// namespace of the step. The calling thread must have its own mount namespace.
func (t *tree) mount() (err error) {
	if t.empty, err = unix.Open(scratchVoid, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if err := t.makeMounts(); err != nil {
		return err
	}
	if err := t.mountRoot(); err != nil {
		return err
	}
	if err := t.mountDev(); err != nil {
		return fmt.Errorf("prepare /dev: %w", err)
	}
	if err := t.mountSys(); err != nil {
		return fmt.Errorf("prepare /sys: %w", err)
	}
	for name, text := range map[string]string{"hosts": t.req.HostsFile, "resolv.conf": t.req.ResolvConf} {
		if name == "hosts" && t.req.NoHosts {
			continue
		}
		if err := t.mountText("etc/"+name, text); err != nil {
			return fmt.Errorf("prepare /etc/%s: %w", name, err)
		}
	}
	return t.attachMounts()
}

// close closes the descriptors of mounts.
func (t *tree) close() {
	for _, fd := range []int{t.root, t.dev, t.empty} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	t.root, t.dev, t.empty = -1, -1, -1
	t.closePending()
}

// removeTemporary removes files and folders that were made for this step. The mount
// namespace of the step must have ended.
func (t *tree) removeTemporary() {
	for _, name := range t.temporary {
		os.RemoveAll(name)
	}
	_ = t.plain.Undo()
	if t.plain.Root >= 0 {
		unix.Close(t.plain.Root)
	}
}

// mountRoot mounts the tree with all mount points.
func (t *tree) mountRoot() error {
	if t.req.Root != "" {
		return t.mountPlain()
	}
	folder := t.req.MountPoints
	if folder == "" {
		folder = scratch
	}
	base, err := t.s.base(folder, t.req)
	if err != nil {
		return err
	}
	o := t.overlay(append(t.req.Lowers[:len(t.req.Lowers):len(t.req.Lowers)], base), t.req.Upper, t.req.Work)
	root, attached, err := o.Mount(scratchRoot)
	if err != nil {
		return err
	}
	missing, err := t.missing(root)
	if err == nil && len(missing) > 0 {
		var layer string
		layer, err = newMountPointLayer(folder, root, missing)
		t.temporary = append(t.temporary, layer)
		unix.Close(root)
		if err == nil && attached {
			err = unix.Unmount(scratchRoot, unix.MNT_DETACH)
		}
		if err == nil {
			// A volatile mount does not accept a used workdir.
			err = os.RemoveAll(t.req.Work + "/work")
		}
		if err == nil {
			o.Lowers = append([]string{layer}, o.Lowers...)
			root, attached, err = o.Mount(scratchRoot)
		}
	}
	if err != nil {
		return err
	}
	t.root = root
	if !attached {
		return t.attachRoot()
	}
	return nil
}

func (t *tree) overlay(lowers []string, upper, work string) *mount.Overlay {
	return &mount.Overlay{Lowers: lowers, Upper: upper, Work: work, Text: t.req.OptionText, Scratch: scratch}
}

func (t *tree) attachRoot() error {
	fd, err := unix.Open(scratchRoot, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(t.root, "", fd, "", mount.EmptyPaths); err != nil {
		return fmt.Errorf("attach the tree: %w", err)
	}
	return nil
}

// missing returns the mount points that do not exist in the tree.
func (t *tree) missing(root int) ([]plaintree.MountPoint, error) {
	wanted := mountPoints(t.req)
	for i, m := range t.req.Mounts {
		wanted = append(wanted, plaintree.MountPoint{Path: m.Target, File: t.pending[i].file})
	}
	return plaintree.Missing(root, wanted)
}

// attach attaches a mount at a path in the tree and closes its descriptor.
func (t *tree) attach(fd int, target string) error {
	at, err := inroot.Open(t.root, target, unix.O_PATH)
	if err != nil {
		unix.Close(fd)
		return err
	}
	defer unix.Close(at)
	return mount.Attach(fd, at)
}

// mountText mounts a small file on a path in the tree.
func (t *tree) mountText(target, text string) error {
	name := t.temporaryName("file")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		return err
	}
	fd, err := mount.Clone(unix.AT_FDCWD, name, 0)
	if err != nil {
		return err
	}
	return t.attach(fd, target)
}

// temporaryName returns a new path in the scratch file system, which is removed after the
// step.
func (t *tree) temporaryName(prefix string) string {
	name := scratch + "/" + prefix + strconv.FormatInt(t.s.serial.Add(1), 10)
	t.temporary = append(t.temporary, name)
	return name
}

func (t *tree) mountSys() error {
	attributes := mount.ReadOnly | mount.NoSuid | mount.NoDev | mount.NoExec
	if t.req.Insecure {
		attributes &^= mount.ReadOnly
	}
	sys, err := mount.New("sysfs", attributes)
	masks := t.s.sysMasks
	if err != nil {
		// In a user namespace that does not own the network namespace, the kernel refuses
		// a new sysfs.
		masks = append(masks[:len(masks):len(masks)], "fs/cgroup")
		if sys, err = mount.Clone(unix.AT_FDCWD, "/sys", unix.AT_RECURSIVE); err != nil {
			return err
		}
		sys, err = mount.Restrict(sys, mount.ReadOnly|mount.NoSuid|mount.NoDev|mount.NoExec)
		if err != nil {
			return err
		}
	}
	at, err := t.openDir("sys")
	if err != nil {
		unix.Close(sys)
		return err
	}
	defer unix.Close(at)
	if err := mount.Attach(sys, at); err != nil || t.req.Insecure {
		return err
	}
	return t.maskSys(masks)
}

// openDir opens a directory of the tree that must not be a link.
func (t *tree) openDir(name string) (int, error) {
	fd, err := inroot.OpenClean(t.root, name, unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ELOOP || err == unix.ENOTDIR {
		return -1, fmt.Errorf("/%s of the image is not a directory: %w", name, err)
	}
	return fd, err
}

// maskSys mounts empty directories on directories of /sys.
func (t *tree) maskSys(names []string) error {
	for _, name := range names {
		fd, err := mount.Clone(unix.AT_FDCWD, scratchVoid, 0)
		if err != nil {
			return err
		}
		if err := mount.SetAttributes(fd, mount.ReadOnly, 0); err != nil {
			return err
		}
		if err := t.attach(fd, "sys/"+name); err != nil {
			return err
		}
	}
	return nil
}

// addMountPoint makes a mount point inside an earlier mount.
func (t *tree) addMountPoint(m plaintree.MountPoint) error {
	dir, name := path.Split(m.Path)
	parent, err := inroot.MakeDirs(t.root, dir)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if m.File {
		err = unix.Mknodat(parent, name, unix.S_IFREG|0o644, 0)
	} else {
		err = unix.Mkdirat(parent, name, 0o755)
	}
	if err != nil {
		return fmt.Errorf("make the mount point: %w", err)
	}
	return nil
}
