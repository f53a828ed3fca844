package layerfs

import (
	"io"
	"sync"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/errors/linuxerr"
	"gvisor.dev/gvisor/pkg/hostarch"
	"gvisor.dev/gvisor/pkg/safemem"
	"gvisor.dev/gvisor/pkg/sentry/fsutil"
	"gvisor.dev/gvisor/pkg/sentry/hostfd"
	"gvisor.dev/gvisor/pkg/sentry/memmap"
	"gvisor.dev/gvisor/pkg/sentry/vfs"
	"gvisor.dev/gvisor/pkg/usermem"

	"golang.org/x/sys/unix"
)

// description is the part that open files and directories have in common.
type description struct {
	vfsfd vfs.FileDescription
	vfs.FileDescriptionDefaultImpl
	vfs.LockFD
}

func (fd *description) dentry() *dentry { return fd.vfsfd.Dentry().Impl().(*dentry) }

// Stat implements vfs.FileDescriptionImpl.Stat.
func (fd *description) Stat(context.Context, vfs.StatOptions) (linux.Statx, error) {
	return fd.dentry().stat(), nil
}

// StatFS implements vfs.FileDescriptionImpl.StatFS.
func (fd *description) StatFS(context.Context) (linux.Statfs, error) {
	return fd.dentry().fs.statFS(), nil
}

// ListXattr implements vfs.FileDescriptionImpl.ListXattr.
func (fd *description) ListXattr(context.Context, uint64) ([]string, error) {
	return fd.dentry().listXattr(), nil
}

// GetXattr implements vfs.FileDescriptionImpl.GetXattr.
func (fd *description) GetXattr(_ context.Context, opts vfs.GetXattrOptions) (string, error) {
	return fd.dentry().getXattr(opts.Name)
}

// GetPosixACL implements vfs.FileDescriptionImpl.GetPosixACL.
func (fd *description) GetPosixACL(_ context.Context, t vfs.ACLType) (*vfs.PosixACL, error) {
	return fd.dentry().acl(fd.vfsfd.Credentials().UserNamespace, t), nil
}

// Sync implements vfs.FileDescriptionImpl.Sync.
func (fd *description) Sync(context.Context, vfs.SyncOptions) error { return nil }

// Release implements vfs.FileDescriptionImpl.Release.
func (fd *description) Release(context.Context) {}

// directory is an open directory.
type directory struct {
	description
	vfs.DirectoryFileDescriptionDefaultImpl

	mu  sync.Mutex
	off int64
}

// IterDirents implements vfs.FileDescriptionImpl.IterDirents.
func (fd *directory) IterDirents(_ context.Context, cb vfs.IterDirentsCallback) error {
	entries := fd.dentry().entries()
	fd.mu.Lock()
	defer fd.mu.Unlock()
	for ; fd.off < int64(len(entries)); fd.off++ {
		if err := cb.Handle(entries[fd.off]); err != nil {
			return err
		}
	}
	return nil
}

// Seek implements vfs.FileDescriptionImpl.Seek.
func (fd *directory) Seek(_ context.Context, offset int64, whence int32) (int64, error) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	switch whence {
	case linux.SEEK_SET:
	case linux.SEEK_CUR:
		offset += fd.off
	default:
		return 0, linuxerr.EINVAL
	}
	if offset < 0 {
		return 0, linuxerr.EINVAL
	}
	fd.off = offset
	return offset, nil
}

// content is the host file with the content of a regular file.
type content struct {
	pages fsutil.MmapCachedFile

	d    *dentry
	fd   int
	size int64
	refs int // protected by d.mu
}

// acquire returns the content of a regular file with a reference. It opens the host file
// if it is not open.
func (d *dentry) acquire() (*content, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.content != nil {
		d.content.refs++
		return d.content, nil
	}
	c := &content{d: d, fd: -1, size: d.node.Size, refs: 1}
	if c.size > 0 {
		fd, err := d.fs.stack.open(&d.node)
		if err == unix.EACCES {
			return nil, linuxerr.EACCES // in a directory of the host
		}
		if err != nil {
			return nil, linuxerr.EIO
		}
		c.fd = fd
	}
	c.pages.SetFD(c.fd)
	d.content = c
	return c, nil
}

func (c *content) incRef() {
	c.d.mu.Lock()
	c.refs++
	c.d.mu.Unlock()
}

func (c *content) decRef() {
	c.d.mu.Lock()
	c.refs--
	last := c.refs == 0
	if last {
		c.d.content = nil
	}
	c.d.mu.Unlock()
	if last && c.fd >= 0 {
		c.pages.MappableRelease() // closes it after the last mapping
	}
}

// AddMapping implements memmap.Mappable.AddMapping.
func (c *content) AddMapping(_ context.Context, _ memmap.MappingSpace, ar hostarch.AddrRange, offset uint64, _ bool) error {
	c.pages.AddMapping(ar, offset)
	return nil
}

// RemoveMapping implements memmap.Mappable.RemoveMapping.
func (c *content) RemoveMapping(_ context.Context, _ memmap.MappingSpace, ar hostarch.AddrRange, offset uint64, _ bool) {
	c.pages.RemoveMapping(ar, offset)
}

// CopyMapping implements memmap.Mappable.CopyMapping.
func (c *content) CopyMapping(_ context.Context, _ memmap.MappingSpace, _, to hostarch.AddrRange, offset uint64, _ bool) error {
	c.pages.AddMapping(to, offset)
	return nil
}

// InvalidateUnsavable implements memmap.Mappable.InvalidateUnsavable.
func (c *content) InvalidateUnsavable(context.Context) error { return nil }

// Translate implements memmap.Mappable.Translate.
func (c *content) Translate(_ context.Context, required, optional memmap.MappableRange, at hostarch.AccessType) ([]memmap.Translation, error) {
	end, _ := hostarch.PageRoundUp(uint64(c.size))
	if required.End > end {
		if required.Start >= end {
			return nil, &memmap.BusError{Err: io.EOF}
		}
		required.End = end
	}
	optional.End = min(optional.End, end)
	if at.Write {
		return nil, &memmap.BusError{Err: linuxerr.EROFS}
	}
	return []memmap.Translation{{Source: optional, File: &c.pages, Offset: optional.Start, Perms: hostarch.ReadExecute}}, nil
}

// reader reads a content from an offset.
type reader struct {
	c   *content
	off int64
}

// ReadToBlocks implements safemem.Reader.ReadToBlocks.
func (r *reader) ReadToBlocks(dsts safemem.BlockSeq) (uint64, error) {
	if r.off >= r.c.size {
		return 0, io.EOF
	}
	dsts = dsts.TakeFirst64(uint64(r.c.size - r.off))
	n, err := hostfd.Preadv2(int32(r.c.fd), dsts, r.off, 0)
	r.off += int64(n)
	return n, err
}

// file is an open regular file.
type file struct {
	description
	content *content

	mu  sync.Mutex
	off int64
}

func (d *dentry) openFile(rp *vfs.ResolvingPath, opts *vfs.OpenOptions) (*vfs.FileDescription, error) {
	c, err := d.acquire()
	if err != nil {
		return nil, err
	}
	fd := &file{content: c}
	fd.LockFD.Init(&d.locks)
	if err := fd.vfsfd.Init(fd, opts.Flags, rp.Credentials(), rp.Mount(), &d.vfsd, &vfs.FileDescriptionOptions{AllowDirectIO: true}); err != nil {
		c.decRef()
		return nil, err
	}
	if opts.FileExec && c.fd >= 0 {
		d.fs.recent.add(c)
	}
	return &fd.vfsfd, nil
}

// Release implements vfs.FileDescriptionImpl.Release.
func (fd *file) Release(context.Context) { fd.content.decRef() }

// PRead implements vfs.FileDescriptionImpl.PRead.
func (fd *file) PRead(ctx context.Context, dst usermem.IOSequence, offset int64, opts vfs.ReadOptions) (int64, error) {
	if offset < 0 {
		return 0, linuxerr.EINVAL
	}
	if opts.Flags&^linux.RWF_HIPRI != 0 {
		return 0, linuxerr.EOPNOTSUPP
	}
	if dst.NumBytes() == 0 {
		return 0, nil
	}
	return dst.CopyOutFrom(ctx, &reader{fd.content, offset})
}

// Read implements vfs.FileDescriptionImpl.Read.
func (fd *file) Read(ctx context.Context, dst usermem.IOSequence, opts vfs.ReadOptions) (int64, error) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	n, err := fd.PRead(ctx, dst, fd.off, opts)
	fd.off += n
	return n, err
}

// PWrite implements vfs.FileDescriptionImpl.PWrite.
func (fd *file) PWrite(context.Context, usermem.IOSequence, int64, vfs.WriteOptions) (int64, error) {
	return 0, linuxerr.EROFS
}

// Write implements vfs.FileDescriptionImpl.Write.
func (fd *file) Write(context.Context, usermem.IOSequence, vfs.WriteOptions) (int64, error) {
	return 0, linuxerr.EROFS
}

// Seek implements vfs.FileDescriptionImpl.Seek.
func (fd *file) Seek(_ context.Context, offset int64, whence int32) (int64, error) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	size := fd.content.size
	switch whence {
	case linux.SEEK_SET:
	case linux.SEEK_CUR:
		offset += fd.off
	case linux.SEEK_END:
		offset += size
	case linux.SEEK_DATA, linux.SEEK_HOLE:
		if offset < 0 || offset >= size {
			return 0, linuxerr.ENXIO
		}
		if whence == linux.SEEK_HOLE {
			offset = size
		}
	default:
		return 0, linuxerr.EINVAL
	}
	if offset < 0 {
		return 0, linuxerr.EINVAL
	}
	fd.off = offset
	return offset, nil
}

// ConfigureMMap implements vfs.FileDescriptionImpl.ConfigureMMap.
func (fd *file) ConfigureMMap(_ context.Context, opts *memmap.MMapOpts) error {
	if opts.MaxPerms.Write && !opts.Private {
		return linuxerr.EACCES
	}
	return vfs.GenericConfigureMMap(&fd.vfsfd, fd.content, opts)
}
