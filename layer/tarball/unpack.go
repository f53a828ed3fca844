package tarball

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/index"
)

// An unpacker makes a tree on disk, in overlay form. Directories are open to
// their owner until the end, and get their attributes then: making what is in
// them would change their times, and can need more than their mode grants.
type unpacker struct {
	dir      string
	dirs     *dirs
	tree     *tree
	chown    bool
	readable bool
	epoch    int64
	umask    uint32
	uid, gid int // that new files get; -1 when not known
}

// newUnpacker starts a tree in dir, which must be empty: the model knows of
// nothing else.
func newUnpacker(dir string, o ApplyOptions) (*unpacker, error) {
	d, err := openDirs(dir)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	u := &unpacker{
		dir: dir, dirs: d, tree: newTree(o.Below, o.Limits.withDefaults()),
		chown: !o.NoChown, readable: o.Readable, epoch: math.MaxInt64, umask: umask(), uid: os.Geteuid(), gid: os.Getegid(),
	}
	u.tree.mkdir = func(n *node, was kind) error { return u.make(n, was, nil) }
	if o.Epoch != nil {
		u.epoch = *o.Epoch
	}
	if err := u.checkRoot(); err != nil {
		d.close()
		return nil, fmt.Errorf("tree %s: %w", dir, err)
	}
	return u, nil
}

func (u *unpacker) checkRoot() error {
	var st unix.Stat_t
	if err := unix.Fstat(u.dirs.root, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_ISGID != 0 {
		u.gid = -1
	}
	names, err := os.ReadDir(u.dir)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("not empty: holds %s", names[0].Name())
	}
	return nil
}

// umask reads the umask without changing it, all bits when it can't. It is the
// thread's: one that has unshared its file system attributes has its own.
func umask() uint32 {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return 0o777
	}
	_, after, _ := strings.Cut(string(status), "\nUmask:")
	line, _, _ := strings.Cut(after, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(line), 8, 32)
	if err != nil {
		return 0o777
	}
	return uint32(mask)
}

type copyFunc func(w io.Writer, e *index.Entry) error

// put makes what e says at path; copy gives a file its bytes.
func (u *unpacker) put(path string, e *index.Entry, copy copyFunc) error {
	n, was, err := u.tree.put(path, e)
	if err != nil {
		return err
	}
	return u.make(n, was, copy)
}

// make brings the disk to where the model is.
func (u *unpacker) make(n *node, was kind, copy copyFunc) error {
	if n.dir && was == kindDir {
		return nil
	}
	name := base(n.path)
	parent, err := u.clear(n, was)
	if err != nil {
		return err
	}
	e := n.inode
	switch e.Type {
	case index.TypeDir:
		return unix.Mkdirat(parent, name, 0o700)
	case index.TypeFile:
		return u.file(parent, name, e, copy)
	case index.TypeSymlink:
		err = unix.Symlinkat(e.Link, parent, name)
	case index.TypeFifo:
		err = unix.Mknodat(parent, name, unix.S_IFIFO|0o600, 0)
	case index.TypeChar, index.TypeBlock:
		err = u.device(parent, name, e)
		if errors.Is(err, unix.EPERM) {
			return nil
		}
	}
	if err != nil {
		return err
	}
	return u.attributes(parent, name, e)
}

// clear removes what was at n's path and returns its open parent.
func (u *unpacker) clear(n *node, was kind) (int, error) {
	if was == kindDir {
		u.dirs.forget()
		if err := u.removeAll(n.path); err != nil {
			return -1, err
		}
	}
	parent, err := u.dirs.open(n.parent.path)
	if err != nil {
		return -1, err
	}
	if was == kindOther || was == kindWhiteout {
		if err := unix.Unlinkat(parent, base(n.path), 0); err != nil && err != unix.ENOENT {
			return -1, err
		}
	}
	return parent, nil
}

func (u *unpacker) removeAll(path string) error {
	root, err := os.OpenRoot(u.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(path)
}

func (u *unpacker) device(parent int, name string, e *index.Entry) error {
	mode := uint32(unix.S_IFCHR)
	if e.Type == index.TypeBlock {
		mode = unix.S_IFBLK
	}
	return unix.Mknodat(parent, name, mode|0o600, int(unix.Mkdev(e.Major, e.Minor)))
}

func (u *unpacker) file(parent int, name string, e *index.Entry, copy copyFunc) error {
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	full := u.mode(e)
	mode := full & 0o777
	fd, err := unix.Openat(parent, name, flags, mode)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := copy(fdWriter(fd), e); err != nil {
		return err
	}
	if u.mustChown(e) {
		if err := unix.Fchown(fd, e.UID, e.GID); err != nil {
			return chownError(e, err)
		}
	}
	// A change of owner drops set-id bits, and the umask what it masks.
	if full != mode || mode&u.umask != 0 {
		if err := unix.Fchmod(fd, full); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	if err := u.xattrs(fd, e); err != nil {
		return err
	}
	return u.times(parent, name, e)
}

// attributes sets what is set by name: of anything but a regular file.
func (u *unpacker) attributes(parent int, name string, e *index.Entry) error {
	if u.mustChown(e) {
		if err := unix.Fchownat(parent, name, e.UID, e.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownError(e, err)
		}
	}
	if e.Type != index.TypeSymlink {
		if err := unix.Fchmodat(parent, name, u.mode(e), 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	return u.times(parent, name, e)
}

// mode is what an entry's mode is on disk.
func (u *unpacker) mode(e *index.Entry) uint32 {
	switch {
	case u.readable && e.Type == index.TypeDir:
		return e.Mode | 0o700
	case u.readable:
		return e.Mode | 0o400
	}
	return e.Mode
}

func (u *unpacker) mustChown(e *index.Entry) bool {
	return u.chown && (e.UID != u.uid || e.GID != u.gid)
}

func chownError(e *index.Entry, err error) error {
	if err == unix.EINVAL {
		return fmt.Errorf("owner %d:%d is not in the map of ids: %w", e.UID, e.GID, err)
	}
	return fmt.Errorf("chown to %d:%d: %w", e.UID, e.GID, err)
}

func (u *unpacker) times(parent int, name string, e *index.Entry) error {
	t := unix.Timespec{Sec: min(e.MTime, u.epoch)}
	if err := unix.UtimesNanoAt(parent, name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// xattrs sets the attributes that this file system and this user can have.
func (u *unpacker) xattrs(fd int, e *index.Entry) error {
	for name, value := range e.XAttrs {
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if err == unix.ENOTSUP || err == unix.EPERM && !u.chown {
			continue
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

// link makes path another name of what is at target.
func (u *unpacker) link(path, target string) error {
	n, to, was, err := u.tree.link(path, target)
	if err != nil || n == to {
		return err
	}
	parent, err := u.clear(n, was)
	if err != nil {
		return err
	}
	err = unix.Linkat(u.dirs.root, to.path, parent, base(n.path), 0)
	if err == unix.ENOENT && isDevice(to.inode) {
		return nil
	}
	return err
}

func isDevice(e *index.Entry) bool {
	return e.Type == index.TypeChar || e.Type == index.TypeBlock
}

// hide makes a whiteout, or marks a directory as opaque.
func (u *unpacker) hide(path string, opaque bool) error {
	n, was, err := u.tree.hide(path, opaque)
	if n == u.tree.root && n.merged {
		return u.hideRoot()
	}
	if err != nil || n == nil || was != kindNone {
		return err
	}
	parent, err := u.dirs.open(n.parent.path)
	if err != nil {
		return err
	}
	if err := MakeWhiteout(parent, base(n.path)); err != nil {
		return fmt.Errorf("whiteout: %w", err)
	}
	return nil
}

// hideRoot hides each child of the root: an overlay does not heed the mark on a
// root.
func (u *unpacker) hideRoot() error {
	for _, kid := range u.tree.below.ReadDir(".") {
		if err := u.hide(kid.Path, false); err != nil {
			return err
		}
	}
	return nil
}

// finish gives directories their attributes, the deepest first.
func (u *unpacker) finish() error {
	var all []*node
	for _, n := range u.tree.nodes {
		if n.dir {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b *node) int { return index.ComparePaths(b.path, 0, a.path, 0) })
	for _, n := range all {
		if err := u.finishDir(n); err != nil {
			return fmt.Errorf("directory %s: %w", n.path, err)
		}
	}
	return nil
}

func (u *unpacker) finishDir(n *node) error {
	parent, err := u.dirs.open(n.parent.path)
	if err != nil {
		return err
	}
	name := base(n.path)
	if opaque := n.opaque || n.whiteout; opaque || len(n.inode.XAttrs) > 0 {
		if err := u.dirXAttrs(parent, name, n.inode, opaque); err != nil {
			return err
		}
	}
	return u.attributes(parent, name, n.inode)
}

func (u *unpacker) dirXAttrs(parent int, name string, e *index.Entry, opaque bool) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if opaque {
		if err := unix.Fsetxattr(fd, opaqueXAttr, []byte("y"), 0); err != nil {
			return fmt.Errorf("mark as opaque: %w", err)
		}
	}
	return u.xattrs(fd, e)
}

type fdWriter int

func (fd fdWriter) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n, err := unix.Write(int(fd), p[written:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}
