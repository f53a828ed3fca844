package container

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/overlay"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/tmpfs"
	"gvisor.dev/gvisor/pkg/sentry/vfs"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/cmd/cairn-gvisor/layerfs"
	"github.com/cairn-build/cairn/layer/listing"
)

// makeMount makes a mount of the request, which is not attached yet.
func (t *tree) makeMount(m *guest.Mount) (*vfs.Mount, error) {
	switch m.Type {
	case guest.MountTmpfs:
		data := fmt.Sprintf("mode=%o,uid=%d,gid=%d", m.Mode, m.UID, m.GID)
		if m.Size > 0 {
			data += fmt.Sprintf(",size=%d", m.Size)
		}
		made, err := t.newTmpfs(data, tmpfs.FilesystemOpts{DisableDefaultSizeLimit: true}, vfs.MountFlags{NoDev: true, NoSUID: true})
		if err == nil && m.ReadOnly {
			err = t.vfs.SetMountReadOnly(made, true)
		}
		return made, err
	case guest.MountFile:
		return t.newFile(m.Data, m.UID, m.GID, m.Mode, m.ReadOnly)
	case guest.MountSocket:
		return t.newSocket(m)
	case guest.MountLayers:
		return t.mountLayers(m)
	case guest.MountCache:
		return t.mountCache(m)
	case guest.MountVolume:
		return t.mountVolume(m)
	}
	return nil, fmt.Errorf("mounts of the type %q are not known", m.Type)
}

// mountLayers mounts a part of a stack of layers. Changes are discarded.
func (t *tree) mountLayers(m *guest.Mount) (*vfs.Mount, error) {
	stack, err := t.s.stack(m.Layers)
	if err != nil {
		return nil, err
	}
	path, n, found, err := stack.View().Resolve(clean(m.Subpath), true)
	if err == nil && !found {
		err = fmt.Errorf("/%s: %w", path, unix.ENOENT)
	}
	if err != nil {
		return nil, err
	}
	if m.ReadOnly {
		return t.newLayers(stack, path, nil)
	}
	if n.Type != listing.TypeDir {
		return t.copyFile(stack, path)
	}
	return t.newOverlay(stack, path)
}

// newOverlay mounts a directory of a stack with an upper file system that is discarded.
func (t *tree) newOverlay(stack *layerfs.Stack, path string) (*vfs.Mount, error) {
	lower, err := t.newLayers(stack, path, nil)
	if err != nil {
		return nil, err
	}
	defer lower.DecRef(t.ctx)
	upper, err := t.newUpper(stack, path)
	if err != nil {
		return nil, err
	}
	defer upper.DecRef(t.ctx)
	return t.vfs.MountDisconnected(t.ctx, t.creds, "overlay", overlay.Name, &vfs.MountOptions{
		Flags: vfs.MountFlags{NoDev: true}, GetFilesystemOptions: overlayOptions(upper, lower),
	})
}

// copyFile mounts a copy of a file.
func (t *tree) copyFile(stack *layerfs.Stack, path string) (*vfs.Mount, error) {
	from, err := t.newLayers(stack, path, nil)
	if err != nil {
		return nil, err
	}
	defer from.DecRef(t.ctx)
	source := at(rootOf(from), "")
	st, err := t.vfs.StatAt(t.ctx, t.creds, source, &vfs.StatOptions{Mask: linux.STATX_BASIC_STATS})
	if err != nil {
		return nil, err
	}
	to, err := t.newTmpfs("", tmpfs.FilesystemOpts{RootFileType: linux.S_IFREG, DisableDefaultSizeLimit: true}, vfs.MountFlags{NoDev: true})
	if err != nil {
		return nil, err
	}
	if err = t.copyContent(at(rootOf(to), ""), source); err == nil {
		err = t.setAttributes(at(rootOf(to), ""), int64(st.UID), int64(st.GID), int64(st.Mode&0o7777), &st.Mtime)
	}
	if err != nil {
		to.DecRef(t.ctx)
		return nil, err
	}
	return to, nil
}

func (t *tree) copyContent(to, from *vfs.PathOperation) error {
	src, err := t.vfs.OpenAt(t.ctx, t.creds, from, &vfs.OpenOptions{Flags: linux.O_RDONLY})
	if err != nil {
		return err
	}
	defer src.DecRef(t.ctx)
	dst, err := t.vfs.OpenAt(t.ctx, t.creds, to, &vfs.OpenOptions{Flags: linux.O_WRONLY})
	if err != nil {
		return err
	}
	defer dst.DecRef(t.ctx)
	_, err = vfs.CopyRegularFileData(t.ctx, dst, src)
	return err
}
