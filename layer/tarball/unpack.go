package tarball

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tree"
)

// An unpacker makes a tree in overlay form on disk. Directories get their attributes
// at the end: making entries in them changes their times and can need more
// permissions than their mode grants.
type unpacker struct {
	dir      string
	dirs     *dirs
	model    *model
	chown    bool
	readable bool
	contents string                       // ApplyOptions.Contents
	times    map[*listing.Entry]time.Time // exact mtimes of entries that are not finished
	umask    uint32
	uid, gid int // of new files; -1 if not known
}

// newUnpacker starts a tree in dir, which must be empty, as the model is.
func newUnpacker(dir string, o ApplyOptions) (*unpacker, error) {
	d, err := openDirs(dir)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	u := &unpacker{
		dir: dir, dirs: d, model: newModel(o.Below, o.Limits.withDefaults()),
		chown: !o.NoChown, readable: o.Readable, contents: o.Contents, times: map[*listing.Entry]time.Time{}, umask: umask(), uid: os.Geteuid(), gid: os.Getegid(),
	}
	u.model.mkdir = func(n *node, was kind) error { return u.create(n, was, nil) }
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

// umask returns the umask of the thread without changing it, or all bits if it
// cannot be read.
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

type copyFunc func(w io.Writer, e *listing.Entry) error

// put makes the entry e at path. copyTo writes the contents of a file.
func (u *unpacker) put(path string, e *listing.Entry, copyTo copyFunc) error {
	n, was, err := u.model.put(path, e)
	if err != nil {
		return err
	}
	return u.create(n, was, copyTo)
}

// putTimed is put for an entry that may have an exact time. Directories get theirs at the
// end.
func (u *unpacker) putTimed(path string, e *listing.Entry, copyTo copyFunc) error {
	err := u.put(path, e, copyTo)
	if e.Type != listing.TypeDir {
		delete(u.times, e)
	}
	return err
}

// create makes the node n on disk.
func (u *unpacker) create(n *node, was kind, copyTo copyFunc) error {
	if n.dir && was == kindDir {
		return nil
	}
	name := listing.Base(n.path)
	parent, err := u.replaceable(n, was)
	if err != nil {
		return err
	}
	e := n.inode
	switch e.Type {
	case listing.TypeDir:
		return unix.Mkdirat(parent, name, 0o700)
	case listing.TypeFile:
		return u.file(parent, name, e, copyTo)
	case listing.TypeSymlink:
		err = unix.Symlinkat(e.Link, parent, name)
	case listing.TypeFifo:
		err = unix.Mknodat(parent, name, unix.S_IFIFO|0o600, 0)
	case listing.TypeChar, listing.TypeBlock:
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

// replaceable removes the old file at n's path and returns its open parent.
func (u *unpacker) replaceable(n *node, was kind) (int, error) {
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
		if err := unix.Unlinkat(parent, listing.Base(n.path), 0); err != nil && err != unix.ENOENT {
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

func (u *unpacker) device(parent int, name string, e *listing.Entry) error {
	mode := uint32(unix.S_IFCHR)
	if e.Type == listing.TypeBlock {
		mode = unix.S_IFBLK
	}
	return unix.Mknodat(parent, name, mode|0o600, int(unix.Mkdev(e.Major, e.Minor)))
}

func (u *unpacker) file(parent int, name string, e *listing.Entry, copyTo copyFunc) error {
	full := u.mode(e)
	mode := full & 0o777
	fd, err := u.content(parent, name, mode, e, copyTo)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if u.mustChown(e) {
		if err := unix.Fchown(fd, e.UID, e.GID); err != nil {
			return chownError(e, err)
		}
	}
	// A change of owner clears set-id bits, and the umask clears others.
	if full != mode || mode&u.umask != 0 || u.contents != "" {
		if err := unix.Fchmod(fd, full); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	if err := u.xattrs(fd, e); err != nil {
		return err
	}
	return u.setTime(parent, name, e)
}

// content makes a file with its contents and returns its descriptor.
func (u *unpacker) content(parent int, name string, mode uint32, e *listing.Entry, copyTo copyFunc) (int, error) {
	if u.contents != "" && e.Size > 0 {
		return u.move(parent, name, e)
	}
	fd, err := unix.Openat(parent, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err == nil {
		if err = copyTo(fdWriter(fd), e); err != nil {
			unix.Close(fd)
		}
	}
	return fd, err
}

// move moves a file to its place in the tree and returns its descriptor.
func (u *unpacker) move(parent int, name string, e *listing.Entry) (int, error) {
	from, err := unix.Open(u.contents, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(from)
	if err := unix.Renameat(from, e.Path, parent, name); err != nil {
		return -1, fmt.Errorf("take its contents from %s: %w", u.contents, err)
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != e.Size) {
		err = fmt.Errorf("its contents are not a file of %d bytes", e.Size)
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

// attributes sets the attributes of a file other than a regular one.
func (u *unpacker) attributes(parent int, name string, e *listing.Entry) error {
	if u.mustChown(e) {
		if err := unix.Fchownat(parent, name, e.UID, e.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownError(e, err)
		}
	}
	if e.Type != listing.TypeSymlink {
		if err := unix.Fchmodat(parent, name, u.mode(e), 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	return u.setTime(parent, name, e)
}

// mode returns the mode of an entry on disk.
func (u *unpacker) mode(e *listing.Entry) uint32 {
	switch {
	case u.readable && e.Type == listing.TypeDir:
		return e.Mode | 0o700
	case u.readable:
		return e.Mode | 0o400
	}
	return e.Mode
}

func (u *unpacker) mustChown(e *listing.Entry) bool {
	return u.chown && (e.UID != u.uid || e.GID != u.gid)
}

func chownError(e *listing.Entry, err error) error {
	if err == unix.EINVAL {
		return fmt.Errorf("owner %d:%d is not in the id map: %w", e.UID, e.GID, err)
	}
	return fmt.Errorf("chown to %d:%d: %w", e.UID, e.GID, err)
}

func (u *unpacker) setTime(parent int, name string, e *listing.Entry) error {
	t := unix.Timespec{Sec: e.MTime}
	if at, ok := u.times[e]; ok {
		t = unix.Timespec{Sec: at.Unix(), Nsec: int64(at.Nanosecond())}
	}
	if err := unix.UtimesNanoAt(parent, name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// xattrs sets the attributes, except for those that the file system or the user
// cannot set.
func (u *unpacker) xattrs(fd int, e *listing.Entry) error {
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

// link makes path a hard link to target.
func (u *unpacker) link(path, target string) error {
	n, to, was, err := u.model.link(path, target)
	if err != nil || n == to {
		return err
	}
	parent, err := u.replaceable(n, was)
	if err != nil {
		return err
	}
	err = unix.Linkat(u.dirs.root, to.path, parent, listing.Base(n.path), 0)
	if err == unix.ENOENT && isDevice(to.inode) {
		return nil
	}
	return err
}

// adopt sets the attributes of the file at path, which e has.
func (u *unpacker) adopt(path string, e *listing.Entry) error {
	parent, err := u.dirs.open(listing.Dir(path))
	if err != nil {
		return err
	}
	name := listing.Base(path)
	var st unix.Stat_t
	err = unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT && isDevice(e) {
		return nil
	}
	if err != nil {
		return err
	}
	if u.chown { // also if the owner was set before
		if err := unix.Fchownat(parent, name, e.UID, e.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownError(e, err)
		}
	}
	if e.Type == listing.TypeFile && len(e.XAttrs) > 0 {
		fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := u.xattrs(fd, e); err != nil {
			return err
		}
	}
	if e.Type != listing.TypeSymlink {
		if err := unix.Fchmodat(parent, name, u.mode(e), 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	return u.setTime(parent, name, e)
}

func isDevice(e *listing.Entry) bool {
	return e.Type == listing.TypeChar || e.Type == listing.TypeBlock
}

// hide makes a whiteout, or marks a directory as opaque.
func (u *unpacker) hide(path string, opaque bool) error {
	n, was, err := u.model.hide(path, opaque)
	if n == u.model.root && n.merged {
		return u.hideRoot()
	}
	if err != nil || n == nil || was != kindNone {
		return err
	}
	parent, err := u.dirs.open(n.parent.path)
	if err != nil {
		return err
	}
	if err := tree.MakeWhiteout(parent, listing.Base(n.path)); err != nil {
		return fmt.Errorf("whiteout: %w", err)
	}
	return nil
}

// hideRoot hides each child of the root: an overlay ignores the opaque mark on a
// root.
func (u *unpacker) hideRoot() error {
	for _, kid := range u.model.below.ReadDir(".") {
		if err := u.hide(kid.Path, false); err != nil {
			return err
		}
	}
	return nil
}

// finish sets the attributes of directories, deepest first.
func (u *unpacker) finish() error {
	var all []*node
	for _, n := range u.model.nodes {
		if n.dir {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b *node) int { return listing.ComparePaths(b.path, 0, a.path, 0) })
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
	name := listing.Base(n.path)
	if opaque := n.opaque || n.whiteout; opaque || len(n.inode.XAttrs) > 0 {
		if err := u.dirXAttrs(parent, name, n.inode, opaque); err != nil {
			return err
		}
	}
	return u.attributes(parent, name, n.inode)
}

func (u *unpacker) dirXAttrs(parent int, name string, e *listing.Entry, opaque bool) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if opaque {
		if err := unix.Fsetxattr(fd, tree.OpaqueXAttr, []byte(tree.OpaqueValue), 0); err != nil {
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
