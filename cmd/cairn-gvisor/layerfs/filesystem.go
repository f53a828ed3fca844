package layerfs

import (
	"sync"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/errors/linuxerr"
	"gvisor.dev/gvisor/pkg/fspath"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/pkg/sentry/socket/unix/transport"
	"gvisor.dev/gvisor/pkg/sentry/vfs"
)

// Name is the name of the file system type.
const Name = "layerfs"

const maxNameLen = 255

// FilesystemType implements vfs.FilesystemType.
type FilesystemType struct{}

// Options are the options of a mount, for vfs.GetFilesystemOptions.InternalData.
type Options struct {
	Stack *Stack
	// Path is the resolved path of the file or directory to be shown, "." for all.
	Path string
	// Watcher, if not nil, is told of files that an overlay copies up.
	Watcher Watcher
}

// Watcher is told of each file that an overlay copies to its upper file system. Paths are
// those of listing.Entry.
type Watcher interface {
	// Starting is called before a file is copied, and at other times too.
	Starting(ctx context.Context, path string)
	// Made is called when the copy is in the upper file system, and at other times too.
	Made(ctx context.Context, path string)
}

// Name implements vfs.FilesystemType.Name.
func (FilesystemType) Name() string { return Name }

// Release implements vfs.FilesystemType.Release.
func (FilesystemType) Release(context.Context) {}

// filesystem implements vfs.FilesystemImpl. Its dentries are made when they are needed,
// and stay until it is released.
type filesystem struct {
	vfsfs    vfs.Filesystem
	stack    *Stack
	root     *dentry
	devMinor uint32
	watcher  Watcher // nil for none
	recent   recent
}

// GetFilesystem implements vfs.FilesystemType.GetFilesystem.
func (t FilesystemType) GetFilesystem(_ context.Context, vfsObj *vfs.VirtualFilesystem, _ *auth.Credentials, _ string, opts vfs.GetFilesystemOptions) (*vfs.Filesystem, *vfs.Dentry, error) {
	o, ok := opts.InternalData.(Options)
	if !ok {
		return nil, nil, linuxerr.EINVAL
	}
	n, ok := o.Stack.view.Lookup(o.Path)
	if !ok {
		return nil, nil, linuxerr.ENOENT
	}
	minor, err := vfsObj.GetAnonBlockDevMinor()
	if err != nil {
		return nil, nil, err
	}
	fs := &filesystem{stack: o.Stack, devMinor: minor, watcher: o.Watcher}
	fs.vfsfs.Init(vfsObj, &t, fs)
	fs.root = fs.newDentry(nil, "", n)
	return &fs.vfsfs, &fs.root.vfsd, nil
}

// Release implements vfs.FilesystemImpl.Release.
func (fs *filesystem) Release(context.Context) {
	fs.recent.clear()
	fs.vfsfs.VirtualFilesystem().PutAnonBlockDevMinor(fs.devMinor)
}

// step resolves the next element of a path.
func (fs *filesystem) step(ctx context.Context, rp *vfs.ResolvingPath, d *dentry) (*dentry, bool, error) {
	if !d.isDir() {
		return nil, false, linuxerr.ENOTDIR
	}
	if err := d.checkPermissions(rp.Credentials(), vfs.MayExec); err != nil {
		return nil, false, err
	}
	name := rp.Component()
	if name == "." {
		rp.Advance()
		return d, false, nil
	}
	if name == ".." {
		if isRoot, err := rp.CheckRoot(ctx, &d.vfsd); err != nil {
			return nil, false, err
		} else if isRoot || d.parent == nil {
			rp.Advance()
			return d, false, nil
		}
		if err := rp.CheckMount(ctx, &d.parent.vfsd); err != nil {
			return nil, false, err
		}
		rp.Advance()
		return d.parent, false, nil
	}
	if len(name) > maxNameLen {
		return nil, false, linuxerr.ENAMETOOLONG
	}
	child := d.child(name)
	if child == nil {
		return nil, false, linuxerr.ENOENT
	}
	if err := rp.CheckMount(ctx, &child.vfsd); err != nil {
		return nil, false, err
	}
	if child.fileType() == linux.S_IFLNK && rp.ShouldFollowSymlink() {
		followed, err := rp.HandleSymlink(child.node.Link)
		return d, followed, err
	}
	rp.Advance()
	return child, false, nil
}

// walkParent resolves all but the last element.
func (fs *filesystem) walkParent(ctx context.Context, rp *vfs.ResolvingPath, d *dentry) (*dentry, error) {
	for !rp.Final() {
		next, _, err := fs.step(ctx, rp, d)
		if err != nil {
			return nil, err
		}
		d = next
	}
	if !d.isDir() {
		return nil, linuxerr.ENOTDIR
	}
	return d, nil
}

func (fs *filesystem) resolve(ctx context.Context, rp *vfs.ResolvingPath) (*dentry, error) {
	d := rp.Start().Impl().(*dentry)
	for !rp.Done() {
		next, _, err := fs.step(ctx, rp, d)
		if err != nil {
			return nil, err
		}
		d = next
	}
	if rp.MustBeDir() && !d.isDir() {
		return nil, linuxerr.ENOTDIR
	}
	return d, nil
}

// create returns the error of a call that makes a file.
func (fs *filesystem) create(ctx context.Context, rp *vfs.ResolvingPath, dir bool) error {
	parent, err := fs.walkParent(ctx, rp, rp.Start().Impl().(*dentry))
	if err != nil {
		return err
	}
	if err := parent.checkPermissions(rp.Credentials(), vfs.MayExec); err != nil {
		return err
	}
	name := rp.Component()
	switch {
	case name == "." || name == "..":
		return linuxerr.EEXIST
	case len(name) > maxNameLen:
		return linuxerr.ENAMETOOLONG
	case parent.child(name) != nil:
		return linuxerr.EEXIST
	case !dir && rp.MustBeDir():
		return linuxerr.ENOENT
	}
	return linuxerr.EROFS
}

// Sync implements vfs.FilesystemImpl.Sync.
func (fs *filesystem) Sync(context.Context) error { return nil }

// AccessAt implements vfs.FilesystemImpl.AccessAt.
func (fs *filesystem) AccessAt(ctx context.Context, rp *vfs.ResolvingPath, creds *auth.Credentials, ats vfs.AccessTypes) error {
	d, err := fs.resolve(ctx, rp)
	if err != nil {
		return err
	}
	if ats.MayWrite() {
		return linuxerr.EROFS
	}
	return d.checkPermissions(creds, ats)
}

// GetDentryAt implements vfs.FilesystemImpl.GetDentryAt.
func (fs *filesystem) GetDentryAt(ctx context.Context, rp *vfs.ResolvingPath, opts vfs.GetDentryOptions) (*vfs.Dentry, error) {
	d, err := fs.resolve(ctx, rp)
	if err != nil {
		return nil, err
	}
	if opts.CheckSearchable {
		if !d.isDir() {
			return nil, linuxerr.ENOTDIR
		}
		if err := d.checkPermissions(rp.Credentials(), vfs.MayExec); err != nil {
			return nil, err
		}
	}
	return &d.vfsd, nil
}

// GetParentDentryAt implements vfs.FilesystemImpl.GetParentDentryAt.
func (fs *filesystem) GetParentDentryAt(ctx context.Context, rp *vfs.ResolvingPath) (*vfs.Dentry, error) {
	d, err := fs.walkParent(ctx, rp, rp.Start().Impl().(*dentry))
	if err != nil {
		return nil, err
	}
	return &d.vfsd, nil
}

// OpenAt implements vfs.FilesystemImpl.OpenAt.
func (fs *filesystem) OpenAt(ctx context.Context, rp *vfs.ResolvingPath, opts vfs.OpenOptions) (*vfs.FileDescription, error) {
	if opts.Flags&linux.O_TMPFILE == linux.O_TMPFILE {
		return nil, linuxerr.EOPNOTSUPP
	}
	if opts.Flags&linux.O_CREAT == 0 || rp.Done() {
		d, err := fs.resolve(ctx, rp)
		if err != nil {
			return nil, err
		}
		return d.open(ctx, rp, &opts)
	}
	d := rp.Start().Impl().(*dentry)
	for {
		parent, err := fs.walkParent(ctx, rp, d)
		if err != nil {
			return nil, err
		}
		if rp.MustBeDir() {
			return nil, linuxerr.EISDIR
		}
		child, followed, err := fs.step(ctx, rp, parent)
		exclusive := opts.Flags&linux.O_EXCL != 0
		switch {
		case followed && exclusive:
			return nil, linuxerr.EEXIST
		case followed && err == nil:
			d = parent
			continue
		case linuxerr.Equals(linuxerr.ENOENT, err):
			return nil, linuxerr.EROFS
		case err != nil:
			return nil, err
		case exclusive:
			return nil, linuxerr.EEXIST
		}
		return child.open(ctx, rp, &opts)
	}
}

// ReadlinkAt implements vfs.FilesystemImpl.ReadlinkAt.
func (fs *filesystem) ReadlinkAt(ctx context.Context, rp *vfs.ResolvingPath) (string, error) {
	d, err := fs.resolve(ctx, rp)
	if err != nil {
		return "", err
	}
	if d.fileType() != linux.S_IFLNK {
		return "", linuxerr.EINVAL
	}
	return d.node.Link, nil
}

// StatAt implements vfs.FilesystemImpl.StatAt.
func (fs *filesystem) StatAt(ctx context.Context, rp *vfs.ResolvingPath, opts vfs.StatOptions) (linux.Statx, error) {
	d, err := fs.resolve(ctx, rp)
	if err != nil {
		return linux.Statx{}, err
	}
	if fs.watcher != nil && opts.Mask == linux.STATX_ATIME|linux.STATX_MTIME {
		fs.watcher.Starting(ctx, d.node.Path) // an overlay asks for these first
	}
	return d.stat(), nil
}

// StatFSAt implements vfs.FilesystemImpl.StatFSAt.
func (fs *filesystem) StatFSAt(ctx context.Context, rp *vfs.ResolvingPath) (linux.Statfs, error) {
	_, err := fs.resolve(ctx, rp)
	return fs.statFS(), err
}

func (fs *filesystem) statFS() linux.Statfs {
	const overlaySuper = 0x794c7630
	return linux.Statfs{Type: overlaySuper, NameLength: maxNameLen, BlockSize: 4096, FragmentSize: 4096}
}

// BoundEndpointAt implements vfs.FilesystemImpl.BoundEndpointAt.
func (fs *filesystem) BoundEndpointAt(ctx context.Context, rp *vfs.ResolvingPath, _ vfs.BoundEndpointOptions) (transport.BoundEndpoint, error) {
	if _, err := fs.resolve(ctx, rp); err != nil {
		return nil, err
	}
	return nil, linuxerr.ECONNREFUSED
}

// ListXattrAt implements vfs.FilesystemImpl.ListXattrAt.
func (fs *filesystem) ListXattrAt(ctx context.Context, rp *vfs.ResolvingPath, _ uint64) ([]string, error) {
	d, err := fs.resolve(ctx, rp)
	if err != nil {
		return nil, err
	}
	if fs.watcher != nil {
		fs.watcher.Made(ctx, d.node.Path) // an overlay asks for these when it has made the file
	}
	return d.listXattr(), nil
}

// GetXattrAt implements vfs.FilesystemImpl.GetXattrAt.
func (fs *filesystem) GetXattrAt(ctx context.Context, rp *vfs.ResolvingPath, opts vfs.GetXattrOptions) (string, error) {
	d, err := fs.resolve(ctx, rp)
	if err != nil {
		return "", err
	}
	return d.getXattr(opts.Name)
}

// GetPosixACLAt implements vfs.FilesystemImpl.GetPosixACLAt.
func (fs *filesystem) GetPosixACLAt(ctx context.Context, rp *vfs.ResolvingPath, t vfs.ACLType) (*vfs.PosixACL, error) {
	d, err := fs.resolve(ctx, rp)
	if err != nil {
		return nil, err
	}
	return d.acl(rp.Credentials().UserNamespace, t), nil
}

// PrependPath implements vfs.FilesystemImpl.PrependPath.
func (fs *filesystem) PrependPath(_ context.Context, vfsroot, vd vfs.VirtualDentry, b *fspath.Builder) error {
	for d := vd.Dentry().Impl().(*dentry); ; d = d.parent {
		switch {
		case vd.Mount() == vfsroot.Mount() && &d.vfsd == vfsroot.Dentry():
			return vfs.PrependPathAtVFSRootError{}
		case &d.vfsd == vd.Mount().Root():
			return nil
		case d.parent == nil:
			return vfs.PrependPathAtNonMountRootError{}
		}
		b.PrependComponent(d.name)
	}
}

// IsDescendant implements vfs.FilesystemImpl.IsDescendant.
func (fs *filesystem) IsDescendant(vfsroot, vd vfs.VirtualDentry) bool {
	for d := vd.Dentry().Impl().(*dentry); d != nil; d = d.parent {
		if &d.vfsd == vfsroot.Dentry() {
			return true
		}
	}
	return false
}

// MountOptions implements vfs.FilesystemImpl.MountOptions.
func (fs *filesystem) MountOptions() string { return "" }

var _ vfs.FilesystemImpl = (*filesystem)(nil)

// maxRecent is the number of files that stay open after their last use, since the same
// few programs and libraries are opened again and again.
const maxRecent = 32

// recent is a list of recently opened files.
type recent struct {
	mu   sync.Mutex
	list [maxRecent]*content
	next int
}

// add keeps a file open in place of the oldest one.
func (r *recent) add(c *content) {
	c.incRef()
	r.mu.Lock()
	old := r.list[r.next]
	r.list[r.next] = c
	r.next = (r.next + 1) % maxRecent
	r.mu.Unlock()
	if old != nil {
		old.decRef()
	}
}

func (r *recent) clear() {
	r.mu.Lock()
	list := r.list
	r.list = [maxRecent]*content{}
	r.mu.Unlock()
	for _, c := range list {
		if c != nil {
			c.decRef()
		}
	}
}
