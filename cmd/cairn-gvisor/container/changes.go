package container

import (
	"slices"
	"strings"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/errors/linuxerr"
	"gvisor.dev/gvisor/pkg/sentry/vfs"
	"gvisor.dev/gvisor/pkg/usermem"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/layer/listing"
)

// The attributes of an overlay have this prefix.
const (
	overlayPrefix = linux.XATTR_TRUSTED_PREFIX + "overlay."
	opaqueName    = overlayPrefix + "opaque"
)

// changes lists all paths of an upper file system and writes the contents of its regular
// files to a directory of the host.
func (t *tree) changes(upper *vfs.Mount, to string) ([]guest.Change, error) {
	dir, err := unix.Open(to, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &pathError{"open " + to, err}
	}
	defer unix.Close(dir)
	w := &walker{tree: t, root: rootOf(upper), sink: treeWriter(dir)}
	err = w.run()
	return w.list, err
}

// pathError is the error of an operation on a path.
type pathError struct {
	op  string
	err error
}

func (e *pathError) Error() string { return e.op + ": " + plain(e.err).Error() }
func (e *pathError) Unwrap() error { return plain(e.err) }

// walker walks through an upper file system.
type walker struct {
	*tree
	root    vfs.VirtualDentry
	sink    sink
	written map[uint64]string // paths of files with several names, by inode
	list    []guest.Change
	buf     []byte
}

// sink takes the files of an upper file system.
type sink interface {
	directory(c *guest.Change) error
	// file returns a descriptor for the content, and a function that ends writing. The
	// descriptor is negative if the content is not wanted.
	file(c *guest.Change) (fd int, done func() error, err error)
	// link makes another name of a file that was written.
	link(c *guest.Change, first string) error
	other(c *guest.Change) error
}

// treeWriter is an empty directory for the contents of regular files.
type treeWriter int

func (w treeWriter) directory(c *guest.Change) error {
	if c.Path == "." {
		return nil
	}
	return unix.Mkdirat(int(w), c.Path, 0o700)
}

func (w treeWriter) file(c *guest.Change) (int, func() error, error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(w), c.Path, flags, 0o600)
	return fd, func() error { return nil }, err
}

func (w treeWriter) link(c *guest.Change, first string) error {
	return unix.Linkat(int(w), first, int(w), c.Path, 0)
}

func (w treeWriter) other(*guest.Change) error { return nil }

// run lists everything, sorted, and gives the sink the files.
func (w *walker) run() error {
	w.written = map[uint64]string{}
	if err := w.path("."); err != nil {
		return err
	}
	slices.SortFunc(w.list, func(a, b guest.Change) int {
		return listing.ComparePaths(a.Path, listing.TypeFile, b.Path, listing.TypeFile)
	})
	return nil
}

// path adds a path and everything below it.
func (w *walker) path(path string) error {
	op := at(w.root, path)
	if path == "." {
		op = at(w.root, "")
	}
	st, err := w.vfs.StatAt(w.ctx, w.creds, op, &vfs.StatOptions{Mask: linux.STATX_BASIC_STATS})
	if err != nil {
		return &pathError{"stat /" + path, err}
	}
	c := guest.Change{
		Path: path, Mode: int64(st.Mode), UID: int64(st.UID), GID: int64(st.GID), Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec),
		Major: int64(st.RdevMajor), Minor: int64(st.RdevMinor), Inode: int64(st.Ino), Links: int64(st.Nlink),
	}
	if err := w.attributes(op, &c); err != nil {
		return &pathError{"read the attributes of /" + path, err}
	}
	switch st.Mode & linux.S_IFMT {
	case linux.S_IFREG:
		c.Size = int64(st.Size)
		err = w.content(op, &c)
	case linux.S_IFDIR:
		err = w.sink.directory(&c)
	case linux.S_IFLNK:
		if c.Link, err = w.vfs.ReadlinkAt(w.ctx, w.creds, op); err == nil {
			err = w.sink.other(&c)
		}
	default:
		err = w.sink.other(&c)
	}
	if err != nil {
		return &pathError{"read /" + path, err}
	}
	w.list = append(w.list, c)
	if st.Mode&linux.S_IFMT == linux.S_IFDIR {
		return w.dir(op, path)
	}
	return nil
}

// dir adds the content of a directory.
func (w *walker) dir(op *vfs.PathOperation, path string) error {
	fd, err := w.vfs.OpenAt(w.ctx, w.creds, op, &vfs.OpenOptions{Flags: linux.O_RDONLY | linux.O_DIRECTORY})
	if err != nil {
		return &pathError{"read /" + path, err}
	}
	defer fd.DecRef(w.ctx)
	var names []string
	err = fd.IterDirents(w.ctx, vfs.IterDirentsCallbackFunc(func(e vfs.Dirent) error {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return nil
	}))
	if err != nil {
		return &pathError{"read /" + path, err}
	}
	for _, name := range names {
		if err := w.path(listing.Join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

// attributes reads the extended attributes.
func (w *walker) attributes(op *vfs.PathOperation, c *guest.Change) error {
	names, err := w.vfs.ListXattrAt(w.ctx, w.creds, op, 0)
	if linuxerr.Equals(linuxerr.EOPNOTSUPP, err) {
		return nil
	}
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		value, err := w.vfs.GetXattrAt(w.ctx, w.creds, op, &vfs.GetXattrOptions{Name: name})
		if err != nil {
			return err
		}
		switch {
		case name == opaqueName:
			c.Opaque = value == "y"
		case !strings.HasPrefix(name, overlayPrefix):
			c.XAttrs = append(c.XAttrs, guest.Attribute{Name: name, Value: value})
		}
	}
	return nil
}

// content gives the sink the content of a regular file, or a hard link to it.
func (w *walker) content(op *vfs.PathOperation, c *guest.Change) error {
	if c.Links > 1 {
		if first, ok := w.written[uint64(c.Inode)]; ok {
			return w.sink.link(c, first)
		}
		w.written[uint64(c.Inode)] = c.Path
	}
	fd, done, err := w.sink.file(c)
	if err != nil || fd < 0 {
		return err
	}
	defer unix.Close(fd)
	if c.Size > 0 {
		from, err := w.vfs.OpenAt(w.ctx, w.creds, op, &vfs.OpenOptions{Flags: linux.O_RDONLY})
		if err != nil {
			return err
		}
		defer from.DecRef(w.ctx)
		if err := w.copy(fd, from, c.Size); err != nil {
			return err
		}
	}
	return done()
}

// copyBuffer is the size of the parts in which contents are copied. Parts of zeros become
// holes.
const copyBuffer = 256 << 10

func (w *walker) copy(fd int, from *vfs.FileDescription, size int64) error {
	if w.buf == nil {
		w.buf = make([]byte, copyBuffer)
	}
	for off := int64(0); off < size; {
		part := w.buf[:min(size-off, copyBuffer)]
		n, err := from.PRead(w.ctx, usermem.BytesIOSequence(part), off, vfs.ReadOptions{})
		if n == 0 {
			return err
		}
		if part = part[:n]; !allZero(part) {
			if _, err := unix.Pwrite(fd, part, off); err != nil {
				return err
			}
		}
		off += n
	}
	return unix.Ftruncate(fd, size)
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if b[0]|b[1]|b[2]|b[3]|b[4]|b[5]|b[6]|b[7] != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
