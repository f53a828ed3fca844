package helper

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is the root of a step while it is put together.
type tree struct {
	s    *server
	req  *Request
	root int // the overlay
	dev  int // the mount on /dev
	void int // an empty directory
	gone []string
	made []made // the request's mounts, while they are not attached

	undo    []func() // takes mount points out of a plain tree
	touched touched

	memory string // a small file system for this step alone
}

// newTree returns a tree in which nothing is mounted yet.
func (s *server) newTree(req *Request) *tree {
	return &tree{s: s, req: req, root: -1, dev: -1, void: -1}
}

// mount mounts everything but /proc, which can only be mounted from inside the step's
// process namespace. The calling thread has a mount namespace of its own.
func (t *tree) mount() (err error) {
	if t.void, err = unix.Open(scratchVoid, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
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
		if err := t.mountText("etc/"+name, text); err != nil {
			return fmt.Errorf("prepare /etc/%s: %w", name, err)
		}
	}
	return t.attachMounts()
}

// close lets go of the mounts and removes what was made for them.
func (t *tree) close() {
	for _, fd := range []int{t.root, t.dev, t.void} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	t.root, t.dev, t.void = -1, -1, -1
	t.dropMounts()
}

// sweep removes files and folders made for this step; the mounts are gone by then.
func (t *tree) sweep() {
	for _, name := range t.gone {
		os.RemoveAll(name)
	}
	for _, undo := range slices.Backward(t.undo) {
		undo()
	}
}

// mountRoot mounts the overlay so that all mount points are there.
func (t *tree) mountRoot() error {
	if t.req.Root != "" {
		return t.mountPlain()
	}
	stubs := t.req.Stubs
	if stubs == "" {
		stubs = scratch
	}
	base, err := t.s.base(stubs)
	if err != nil {
		return err
	}
	l := layers{append(t.req.Lowers[:len(t.req.Lowers):len(t.req.Lowers)], base), t.req.Upper, t.req.Work, t.req.OptionText}
	root, attached, err := l.mount(scratchRoot)
	if err != nil {
		return err
	}
	missing, err := t.missing(root)
	if err == nil && len(missing) > 0 {
		var top string
		top, err = cover(stubs, root, missing)
		t.gone = append(t.gone, top)
		unix.Close(root)
		if err == nil && attached {
			err = unix.Unmount(scratchRoot, unix.MNT_DETACH)
		}
		if err == nil {
			// A used workdir is refused by a volatile mount.
			err = os.RemoveAll(t.req.Work + "/work")
		}
		if err == nil {
			l.lowers = append([]string{top}, l.lowers...)
			root, attached, err = l.mount(scratchRoot)
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

func (t *tree) attachRoot() error {
	place, err := unix.Open(scratchRoot, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(place)
	if err := unix.MoveMount(t.root, "", place, "", emptyPaths); err != nil {
		return fmt.Errorf("attach the tree: %w", err)
	}
	return nil
}

// missing returns the mount points that are not there, links followed.
func (t *tree) missing(root int) ([]stub, error) {
	wanted := usual()
	for i, m := range t.req.Mounts {
		wanted = append(wanted, stub{m.Target, t.made[i].file})
	}
	var covered []string
	var out []stub
	for _, w := range wanted {
		clean, found, err := resolve(root, w.path)
		if err != nil {
			return nil, err
		}
		if !found && !below(clean, covered) {
			out = append(out, stub{clean, w.file})
		}
		covered = append(covered, clean)
	}
	return out, nil
}

// below tells whether a path lies in one of the folders.
func below(path string, folders []string) bool {
	for _, f := range folders {
		if strings.HasPrefix(path, f+"/") {
			return true
		}
	}
	return false
}

// place attaches a mount at a path inside the tree.
func (t *tree) place(mount int, target string) error {
	fd, err := open(t.root, target, unix.O_PATH)
	if err != nil {
		unix.Close(mount)
		return err
	}
	defer unix.Close(fd)
	return attach(mount, fd)
}

// mountText mounts a small file of the step's own.
func (t *tree) mountText(target, text string) error {
	name := scratch + "/file" + strconv.FormatInt(t.s.serial.Add(1), 10)
	t.gone = append(t.gone, name)
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		return err
	}
	mount, err := cloneTree(unix.AT_FDCWD, name, 0)
	if err != nil {
		return err
	}
	return t.place(mount, target)
}

func (t *tree) mountSys() error {
	attributes := readOnly | noSuid | noDev | noExec
	if t.req.Insecure {
		attributes &^= readOnly
	}
	sys, err := newFS("sysfs", attributes)
	masks := t.s.sysMasks
	if err != nil {
		masks = append(masks[:len(masks):len(masks)], "fs/cgroup")
		// In a user namespace sysfs belongs to whoever owns the network.
		if sys, err = cloneTree(unix.AT_FDCWD, "/sys", unix.AT_RECURSIVE); err != nil {
			return err
		}
		if err := setAttributes(sys, readOnly|noSuid|noDev|noExec, unix.AT_RECURSIVE); err != nil {
			unix.Close(sys)
			return err
		}
	}
	place, err := t.plain("sys")
	if err != nil {
		unix.Close(sys)
		return err
	}
	defer unix.Close(place)
	if err := attach(sys, place); err != nil || t.req.Insecure {
		return err
	}
	return t.maskSys(masks)
}

// plain opens a directory of the tree that must not be a link.
func (t *tree) plain(name string) (int, error) {
	fd, err := openClean(t.root, name, unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ELOOP || err == unix.ENOTDIR {
		return -1, fmt.Errorf("/%s of the image is not a directory: %w", name, err)
	}
	return fd, err
}

func (t *tree) maskSys(names []string) error {
	for _, name := range names {
		mount, err := cloneTree(unix.AT_FDCWD, scratchVoid, 0)
		if err != nil {
			return err
		}
		if err := setAttributes(mount, readOnly, 0); err != nil {
			return err
		}
		if err := t.place(mount, "sys/"+name); err != nil {
			return err
		}
	}
	return nil
}

// makeIn makes a mount point inside an earlier mount.
func (t *tree) makeIn(clean string, file bool) error {
	dir, name := path.Split(clean)
	parent, err := t.makeDirs(dir)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if file {
		err = unix.Mknodat(parent, name, unix.S_IFREG|0o644, 0)
	} else {
		err = unix.Mkdirat(parent, name, 0o755)
	}
	if err != nil {
		return fmt.Errorf("make the mount point: %w", err)
	}
	return nil
}

// makeDirs makes the missing directories of a path without links and opens the last.
func (t *tree) makeDirs(clean string) (int, error) {
	at, err := open(t.root, ".", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	for name := range strings.SplitSeq(clean, "/") {
		if name == "" {
			continue
		}
		if err := unix.Mkdirat(at, name, 0o755); err != nil && err != unix.EEXIST {
			unix.Close(at)
			return -1, fmt.Errorf("make /%s: %w", strings.TrimRight(clean, "/"), err)
		}
		child, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(at)
		if err != nil {
			return -1, err
		}
		at = child
	}
	return at, nil
}
