package layerfs

import (
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/errors/linuxerr"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/pkg/sentry/kernel/pipe"
	"gvisor.dev/gvisor/pkg/sentry/vfs"

	"github.com/cairn-build/cairn/layer/listing"
)

// dentry implements vfs.DentryImpl. It is not reference-counted, since it stays as long as
// its file system.
type dentry struct {
	vfsd    vfs.Dentry
	fs      *filesystem
	parent  *dentry // nil for the root
	name    string
	node    listing.Node
	locks   vfs.FileLocks
	watches vfs.Watches

	mu       sync.Mutex
	children map[string]*dentry // those that were looked up
	dirents  []vfs.Dirent
	content  *content      // while a regular file is open
	pipe     *pipe.VFSPipe // of an opened FIFO
}

func (fs *filesystem) newDentry(parent *dentry, name string, n listing.Node) *dentry {
	d := &dentry{fs: fs, parent: parent, name: name, node: n}
	d.vfsd.Init(d)
	return d
}

// IncRef implements vfs.DentryImpl.IncRef.
func (d *dentry) IncRef() {}

// TryIncRef implements vfs.DentryImpl.TryIncRef.
func (d *dentry) TryIncRef() bool { return true }

// DecRef implements vfs.DentryImpl.DecRef.
func (d *dentry) DecRef(context.Context) {}

// InotifyWithParent implements vfs.DentryImpl.InotifyWithParent.
func (d *dentry) InotifyWithParent(ctx context.Context, events, cookie uint32, et vfs.EventType) {
	if d.isDir() {
		events |= linux.IN_ISDIR
	}
	if d.parent != nil {
		d.parent.watches.Notify(ctx, d.name, events, cookie, et, false)
	}
	d.watches.Notify(ctx, "", events, cookie, et, false)
}

// Watches implements vfs.DentryImpl.Watches.
func (d *dentry) Watches() *vfs.Watches { return &d.watches }

// OnZeroWatches implements vfs.DentryImpl.OnZeroWatches.
func (d *dentry) OnZeroWatches(context.Context) {}

// child returns the child with a name, nil if there is none.
func (d *dentry) child(name string) *dentry {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c, ok := d.children[name]; ok {
		return c
	}
	if d.children == nil {
		d.children = map[string]*dentry{}
	}
	n, ok := d.fs.stack.view.Lookup(listing.Join(d.node.Path, name))
	if !ok {
		return nil
	}
	c := d.fs.newDentry(d, name, n)
	d.children[name] = c
	return c
}

// entries returns the directory entries.
func (d *dentry) entries() []vfs.Dirent {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dirents != nil {
		return d.dirents
	}
	parent := d.parent
	if parent == nil {
		parent = d
	}
	nodes := d.fs.stack.view.ReadDir(d.node.Path)
	list := make([]vfs.Dirent, 0, len(nodes)+2)
	add := func(name string, n *listing.Node) {
		list = append(list, vfs.Dirent{
			Name: name, Type: linux.FileMode(fileType(n)).DirentType(), Ino: inode(n), NextOff: int64(len(list) + 1),
		})
	}
	add(".", &d.node)
	add("..", &parent.node)
	for i := range nodes {
		add(listing.Base(nodes[i].Path), &nodes[i])
	}
	d.dirents = list
	return list
}

func fileType(n *listing.Node) uint16 {
	switch n.Type {
	case listing.TypeDir:
		return linux.S_IFDIR
	case listing.TypeSymlink:
		return linux.S_IFLNK
	case listing.TypeChar:
		return linux.S_IFCHR
	case listing.TypeBlock:
		return linux.S_IFBLK
	case listing.TypeFifo:
		return linux.S_IFIFO
	}
	return linux.S_IFREG
}

func (d *dentry) fileType() uint16 { return fileType(&d.node) }
func (d *dentry) isDir() bool      { return d.node.Type == listing.TypeDir }

// inode returns an inode number: a hash of the layer and the path in it, so that all names
// of a file have one.
func inode(n *listing.Node) uint64 {
	h := uint64(14695981039346656037) + uint64(n.Layer+1)
	for i := range len(n.TreePath) {
		h = (h ^ uint64(n.TreePath[i])) * 1099511628211
	}
	return h&(1<<63-1) | 2 // 0 and 1 have a meaning to some programs
}

func (d *dentry) checkPermissions(creds *auth.Credentials, ats vfs.AccessTypes) error {
	acl := d.acl(creds.UserNamespace, vfs.AccessACL)
	mode := linux.FileMode(uint16(d.node.Mode) | d.fileType())
	return vfs.GenericCheckPermissions(creds, ats, mode, acl, auth.KUID(d.node.UID), auth.KGID(d.node.GID))
}

func (d *dentry) stat() linux.Statx {
	n := &d.node
	t := d.fs.stack.Time(n)
	stamp := linux.StatxTimestamp{Sec: t.Sec, Nsec: uint32(t.Nsec)}
	s := linux.Statx{
		Mask: linux.STATX_TYPE | linux.STATX_MODE | linux.STATX_NLINK | linux.STATX_UID | linux.STATX_GID | linux.STATX_INO |
			linux.STATX_SIZE | linux.STATX_BLOCKS | linux.STATX_ATIME | linux.STATX_CTIME | linux.STATX_MTIME,
		Blksize: 4096, Nlink: 1, UID: uint32(n.UID), GID: uint32(n.GID), Mode: uint16(n.Mode) | d.fileType(), Ino: inode(n),
		Mtime: stamp, Atime: stamp, Ctime: stamp,
		DevMajor: linux.UNNAMED_MAJOR, DevMinor: d.fs.devMinor,
	}
	switch d.fileType() {
	case linux.S_IFREG:
		s.Size, s.Nlink = uint64(n.Size), d.fs.stack.links(n)
	case linux.S_IFLNK:
		s.Size = uint64(len(n.Link))
	case linux.S_IFDIR:
		s.Size, s.Nlink = 4096, 2
	case linux.S_IFCHR, linux.S_IFBLK:
		s.RdevMajor, s.RdevMinor = n.Major, n.Minor
	}
	s.Blocks = (s.Size + 511) / 512
	return s
}

func (d *dentry) listXattr() []string {
	var names []string
	for name := range d.node.XAttrs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (d *dentry) getXattr(name string) (string, error) {
	value, ok := d.node.XAttrs[name]
	if !ok {
		return "", linuxerr.ENODATA
	}
	return value, nil
}

func (d *dentry) open(ctx context.Context, rp *vfs.ResolvingPath, opts *vfs.OpenOptions) (*vfs.FileDescription, error) {
	ats := vfs.AccessTypesForOpenFlags(opts)
	if err := d.checkPermissions(rp.Credentials(), ats); err != nil {
		return nil, err
	}
	switch d.fileType() {
	case linux.S_IFREG:
		if ats&vfs.MayWrite != 0 {
			return nil, linuxerr.EROFS
		}
		return d.openFile(rp, opts)
	case linux.S_IFDIR:
		if ats&vfs.MayWrite != 0 || opts.Flags&linux.O_CREAT != 0 {
			return nil, linuxerr.EISDIR
		}
		if d.fs.stack.unreadable(&d.node) {
			return nil, linuxerr.EACCES
		}
		fd := &directory{}
		fd.LockFD.Init(&d.locks)
		err := fd.vfsfd.Init(fd, opts.Flags, rp.Credentials(), rp.Mount(), &d.vfsd, &vfs.FileDescriptionOptions{AllowDirectIO: true})
		return &fd.vfsfd, err
	case linux.S_IFLNK:
		return nil, linuxerr.ELOOP
	case linux.S_IFIFO:
		d.mu.Lock()
		if d.pipe == nil {
			d.pipe = pipe.NewVFSPipe(true, pipe.DefaultPipeSize)
		}
		p := d.pipe
		d.mu.Unlock()
		return p.Open(ctx, rp.Mount(), &d.vfsd, opts.Flags, &d.locks)
	}
	// A step must not open devices of an image.
	return nil, linuxerr.EACCES
}
