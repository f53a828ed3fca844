package container

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/context"
	gverrors "gvisor.dev/gvisor/pkg/errors"
	"gvisor.dev/gvisor/pkg/fspath"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/tmpfs"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/pkg/sentry/vfs"
	"gvisor.dev/gvisor/pkg/usermem"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

// files gives access to files of the kernel with all rights.
type files struct {
	ctx   context.Context
	vfs   *vfs.VirtualFilesystem
	creds *auth.Credentials
}

// at returns the operation on a path below a root. The final link is not followed.
func at(root vfs.VirtualDentry, path string) *vfs.PathOperation {
	return &vfs.PathOperation{Root: root, Start: root, Path: fspath.Parse(path)}
}

func follow(root vfs.VirtualDentry, path string) *vfs.PathOperation {
	op := at(root, path)
	op.FollowFinalSymlink = true
	return op
}

// rootOf returns the root directory of a mount. It has no reference of its own.
func rootOf(m *vfs.Mount) vfs.VirtualDentry { return vfs.MakeVirtualDentry(m, m.Root()) }

// plain returns an error of the kernel as an error number of the machine. Other errors
// stay as they are.
func plain(err error) error {
	if e, ok := err.(*gverrors.Error); ok && e != nil {
		return unix.Errno(e.Errno())
	}
	return err
}

// setAttributes sets the owner, permission bits and modification time of a file.
func (f *files) setAttributes(op *vfs.PathOperation, uid, gid, mode int64, mtime *linux.StatxTimestamp) error {
	st := linux.Statx{Mask: linux.STATX_UID | linux.STATX_GID, UID: uint32(uid), GID: uint32(gid)}
	if err := f.vfs.SetStatAt(f.ctx, f.creds, op, &vfs.SetStatOptions{Stat: st}); err != nil {
		return err
	}
	st = linux.Statx{Mask: linux.STATX_MODE, Mode: uint16(mode)}
	if mtime != nil {
		st.Mask |= linux.STATX_MTIME
		st.Mtime = *mtime
	}
	return f.vfs.SetStatAt(f.ctx, f.creds, op, &vfs.SetStatOptions{Stat: st})
}

// newTmpfs mounts a tmpfs outside of the tree.
func (f *files) newTmpfs(data string, o tmpfs.FilesystemOpts, flags vfs.MountFlags) (*vfs.Mount, error) {
	return f.vfs.MountDisconnected(f.ctx, f.creds, "tmpfs", tmpfs.Name, &vfs.MountOptions{
		Flags:                flags,
		GetFilesystemOptions: vfs.GetFilesystemOptions{InternalMount: true, Data: data, InternalData: o},
	})
}

// newFile mounts a file in memory.
func (f *files) newFile(content string, uid, gid, mode int64, readOnly bool) (*vfs.Mount, error) {
	flags := vfs.MountFlags{NoDev: true, NoSUID: true, NoExec: mode&0o111 == 0}
	m, err := f.newTmpfs("", tmpfs.FilesystemOpts{RootFileType: linux.S_IFREG}, flags)
	if err != nil {
		return nil, err
	}
	err = f.write(at(rootOf(m), ""), content)
	if err == nil {
		err = f.setAttributes(at(rootOf(m), ""), uid, gid, mode, nil)
	}
	if err == nil && readOnly {
		err = f.vfs.SetMountReadOnly(m, true)
	}
	if err != nil {
		m.DecRef(f.ctx)
		return nil, err
	}
	return m, nil
}

func (f *files) write(op *vfs.PathOperation, content string) error {
	fd, err := f.vfs.OpenAt(f.ctx, f.creds, op, &vfs.OpenOptions{Flags: linux.O_WRONLY})
	if err != nil {
		return err
	}
	defer fd.DecRef(f.ctx)
	for off := 0; off < len(content); {
		n, err := fd.PWrite(f.ctx, usermem.BytesIOSequence([]byte(content[off:])), int64(off), vfs.WriteOptions{})
		if err != nil {
			return err
		}
		off += int(n)
	}
	return nil
}

// read returns the content of a regular file, "" if there is none at the path.
func (f *files) read(op *vfs.PathOperation, limit int64) (string, error) {
	st, err := f.vfs.StatAt(f.ctx, f.creds, op, &vfs.StatOptions{Mask: linux.STATX_TYPE | linux.STATX_SIZE})
	if err != nil || st.Mode&linux.S_IFMT != linux.S_IFREG {
		return "", nil
	}
	if st.Size > uint64(limit) {
		return "", fmt.Errorf("it is larger than %d bytes", limit)
	}
	fd, err := f.vfs.OpenAt(f.ctx, f.creds, op, &vfs.OpenOptions{Flags: linux.O_RDONLY})
	if err != nil {
		return "", err
	}
	defer fd.DecRef(f.ctx)
	b := make([]byte, st.Size)
	n, err := readFull(f.ctx, fd, b)
	return string(b[:n]), err
}

// readFull reads until the buffer is full or the file ends.
func readFull(ctx context.Context, fd *vfs.FileDescription, b []byte) (int, error) {
	total := 0
	for total < len(b) {
		n, err := fd.PRead(ctx, usermem.BytesIOSequence(b[total:]), int64(total), vfs.ReadOptions{})
		total += int(n)
		if n == 0 {
			if err != nil && err.Error() == "EOF" {
				err = nil
			}
			return total, err
		}
	}
	return total, nil
}

// exists reports whether a path leads to a file.
func (f *files) exists(op *vfs.PathOperation) bool {
	_, err := f.vfs.StatAt(f.ctx, f.creds, op, &vfs.StatOptions{Mask: linux.STATX_TYPE})
	return err == nil
}

// isDir reports whether the root of a mount is a directory.
func (f *files) isDir(op *vfs.PathOperation) (bool, error) {
	st, err := f.vfs.StatAt(f.ctx, f.creds, op, &vfs.StatOptions{Mask: linux.STATX_TYPE})
	return st.Mode&linux.S_IFMT == linux.S_IFDIR, err
}

// makePoint makes a mount point inside another mount.
func (f *files) makePoint(root vfs.VirtualDentry, path string, dir bool) error {
	parent := path
	if !dir {
		parent = listing.Dir(path)
	}
	if parent != "." {
		if err := f.vfs.MkdirAllAt(f.ctx, "/"+parent, root, f.creds, &vfs.MkdirOptions{Mode: 0o755}, true); err != nil {
			return err
		}
	}
	if dir {
		return nil
	}
	return f.vfs.MknodAt(f.ctx, f.creds, at(root, path), &vfs.MknodOptions{Mode: linux.S_IFREG | 0o644})
}
