package layerfs

import (
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/errors/linuxerr"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/pkg/sentry/vfs"
)

// refuse returns the error of a call that changes an existing file.
func (fs *filesystem) refuse(ctx context.Context, rp *vfs.ResolvingPath) error {
	if _, err := fs.resolve(ctx, rp); err != nil {
		return err
	}
	return linuxerr.EROFS
}

// LinkAt implements vfs.FilesystemImpl.LinkAt.
func (fs *filesystem) LinkAt(ctx context.Context, rp *vfs.ResolvingPath, _ vfs.VirtualDentry) error {
	return fs.create(ctx, rp, false)
}

// MkdirAt implements vfs.FilesystemImpl.MkdirAt.
func (fs *filesystem) MkdirAt(ctx context.Context, rp *vfs.ResolvingPath, _ vfs.MkdirOptions) error {
	return fs.create(ctx, rp, true)
}

// MknodAt implements vfs.FilesystemImpl.MknodAt.
func (fs *filesystem) MknodAt(ctx context.Context, rp *vfs.ResolvingPath, _ vfs.MknodOptions) error {
	return fs.create(ctx, rp, false)
}

// SymlinkAt implements vfs.FilesystemImpl.SymlinkAt.
func (fs *filesystem) SymlinkAt(ctx context.Context, rp *vfs.ResolvingPath, _ string) error {
	return fs.create(ctx, rp, false)
}

// RenameAt implements vfs.FilesystemImpl.RenameAt.
func (fs *filesystem) RenameAt(ctx context.Context, rp *vfs.ResolvingPath, oldParent vfs.VirtualDentry, _ string, _ vfs.RenameOptions) error {
	if _, err := fs.walkParent(ctx, rp, rp.Start().Impl().(*dentry)); err != nil {
		return err
	}
	if rp.Mount() != oldParent.Mount() {
		return linuxerr.EXDEV
	}
	return linuxerr.EROFS
}

// remove returns the error of a call that removes a file.
func (fs *filesystem) remove(ctx context.Context, rp *vfs.ResolvingPath) error {
	parent, err := fs.walkParent(ctx, rp, rp.Start().Impl().(*dentry))
	if err != nil {
		return err
	}
	if err := parent.checkPermissions(rp.Credentials(), vfs.MayExec); err != nil {
		return err
	}
	return linuxerr.EROFS
}

// RmdirAt implements vfs.FilesystemImpl.RmdirAt.
func (fs *filesystem) RmdirAt(ctx context.Context, rp *vfs.ResolvingPath) error {
	return fs.remove(ctx, rp)
}

// UnlinkAt implements vfs.FilesystemImpl.UnlinkAt.
func (fs *filesystem) UnlinkAt(ctx context.Context, rp *vfs.ResolvingPath) error {
	return fs.remove(ctx, rp)
}

// SetStatAt implements vfs.FilesystemImpl.SetStatAt.
func (fs *filesystem) SetStatAt(ctx context.Context, rp *vfs.ResolvingPath, _ vfs.SetStatOptions) error {
	return fs.refuse(ctx, rp)
}

// SetXattrAt implements vfs.FilesystemImpl.SetXattrAt.
func (fs *filesystem) SetXattrAt(ctx context.Context, rp *vfs.ResolvingPath, _ vfs.SetXattrOptions) error {
	return fs.refuse(ctx, rp)
}

// RemoveXattrAt implements vfs.FilesystemImpl.RemoveXattrAt.
func (fs *filesystem) RemoveXattrAt(ctx context.Context, rp *vfs.ResolvingPath, _ string) error {
	return fs.refuse(ctx, rp)
}

// SetPosixACLAt implements vfs.FilesystemImpl.SetPosixACLAt.
func (fs *filesystem) SetPosixACLAt(ctx context.Context, rp *vfs.ResolvingPath, _ vfs.ACLType, _ *vfs.PosixACL, _ bool) (*vfs.PosixACL, linux.FileMode, error) {
	return nil, 0, fs.refuse(ctx, rp)
}

// SetStat implements vfs.FileDescriptionImpl.SetStat.
func (fd *description) SetStat(context.Context, vfs.SetStatOptions) error { return linuxerr.EROFS }

// SetXattr implements vfs.FileDescriptionImpl.SetXattr.
func (fd *description) SetXattr(context.Context, vfs.SetXattrOptions) error { return linuxerr.EROFS }

// RemoveXattr implements vfs.FileDescriptionImpl.RemoveXattr.
func (fd *description) RemoveXattr(context.Context, string) error { return linuxerr.EROFS }

// SetPosixACL implements vfs.FileDescriptionImpl.SetPosixACL.
func (fd *description) SetPosixACL(context.Context, vfs.ACLType, *vfs.PosixACL, bool) (*vfs.PosixACL, linux.FileMode, error) {
	return nil, 0, linuxerr.EROFS
}

// acl returns the access control list of a file, nil for none.
func (d *dentry) acl(ns *auth.UserNamespace, t vfs.ACLType) *vfs.PosixACL {
	if len(d.node.XAttrs) == 0 {
		return nil
	}
	name := linux.XATTR_NAME_POSIX_ACL_ACCESS
	if t == vfs.DefaultACL {
		name = linux.XATTR_NAME_POSIX_ACL_DEFAULT
	}
	value, ok := d.node.XAttrs[name]
	if !ok {
		return nil
	}
	acl, err := vfs.ParsePosixACL([]byte(value), ns)
	if err != nil {
		return nil
	}
	return acl
}
