package container

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/sentry/checkpoint"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/dev"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/devpts"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/mqfs"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/overlay"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/proc"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/sys"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/tmpfs"
	"gvisor.dev/gvisor/pkg/sentry/inet"
	"gvisor.dev/gvisor/pkg/sentry/vfs"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/plaintree"
	"github.com/cairn-build/cairn/cmd/cairn-gvisor/layerfs"
	"github.com/cairn-build/cairn/cmd/cairn-gvisor/sentry"
	"github.com/cairn-build/cairn/layer/listing"
)

const hostsPath = "etc/hosts"

// rootMode is the mode of the root directory of every tree.
const rootMode = 0o755

// tree is the file system of a command.
type tree struct {
	files
	s       *Server
	req     *guest.Run
	id      string
	network *inet.Namespace
	stack   *layerfs.Stack // with mount points
	upper   *vfs.Mount
	mounts  *vfs.MountNamespace
	pending []*vfs.Mount // the mounts of the request, until they are attached
	caches  []*cache
	unused  []*cache // to be closed
}

// close releases everything but the mount namespace, which belongs to the processes.
func (t *tree) close() {
	for _, m := range t.pending {
		if m != nil {
			m.DecRef(t.ctx)
		}
	}
	if t.upper != nil {
		t.upper.DecRef(t.ctx)
	}
}

// mount mounts everything.
func (t *tree) mount() error {
	for _, m := range t.req.Mounts {
		made, err := t.makeMount(&m)
		t.pending = append(t.pending, made)
		if err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, plain(err))
		}
	}
	if err := t.mountRoot(); err != nil {
		return err
	}
	for _, part := range []struct {
		name  string
		mount func() error
	}{{"/proc", t.mountProc}, {"/dev", t.mountDev}, {"/sys", t.mountSys}, {"/etc", t.mountTexts}} {
		if err := part.mount(); err != nil {
			return fmt.Errorf("prepare %s: %w", part.name, plain(err))
		}
	}
	for i, m := range t.req.Mounts {
		if err := t.attachPending(i, m.Target); err != nil {
			return fmt.Errorf("mount on %s: %w", m.Target, plain(err))
		}
	}
	return nil
}

// addMountPoints adds a layer with the mount points that the image lacks. They are not in
// the upper file system, so that they are no changes.
func (t *tree) addMountPoints() error {
	wanted := plaintree.Usual()
	if t.req.NoHosts {
		wanted = slices.DeleteFunc(wanted, func(p plaintree.MountPoint) bool { return p.Path == hostsPath })
	}
	for i, m := range t.req.Mounts {
		dir, err := t.isDir(at(rootOf(t.pending[i]), ""))
		if err != nil {
			return err
		}
		wanted = append(wanted, plaintree.MountPoint{Path: clean(m.Target), File: !dir})
	}
	view, now := t.stack.View(), time.Now().Unix()
	var missing []listing.Entry
	for _, w := range wanted {
		path, _, found, err := view.Resolve(w.Path, true)
		if err != nil {
			return err
		}
		if found || slices.ContainsFunc(missing, func(e listing.Entry) bool { return e.Path == path }) {
			continue
		}
		e := listing.Entry{Path: path, Type: listing.TypeDir, Mode: 0o755, MTime: now}
		if w.File {
			e.Type, e.Mode = listing.TypeFile, 0o644
		}
		missing = append(missing, e)
	}
	if len(missing) > 0 {
		slices.SortFunc(missing, listing.Compare)
		t.stack = t.stack.WithEntries(missing)
	}
	return nil
}

// mountRoot mounts the layers below a tmpfs for the changes.
func (t *tree) mountRoot() error {
	if err := t.addMountPoints(); err != nil {
		return err
	}
	var err error
	if t.upper, err = t.newUpper(t.stack, "."); err != nil {
		return fmt.Errorf("mount the upper file system: %w", plain(err))
	}
	lower, err := t.newLayers(t.stack, ".", t.copyUps(t.upper))
	if err != nil {
		return fmt.Errorf("mount the layers: %w", plain(err))
	}
	defer lower.DecRef(t.ctx)
	t.mounts, err = t.vfs.NewMountNamespace(t.ctx, t.creds, "overlay", overlay.Name, &vfs.MountOptions{
		GetFilesystemOptions: overlayOptions(t.upper, lower),
	}, t.s.k.Kernel)
	if err != nil {
		return fmt.Errorf("mount the tree: %w", plain(err))
	}
	return nil
}

func overlayOptions(upper, lower *vfs.Mount) vfs.GetFilesystemOptions {
	return vfs.GetFilesystemOptions{InternalMount: true, InternalData: overlay.FilesystemOptions{
		UpperRoot: rootOf(upper), LowerRoots: []vfs.VirtualDentry{rootOf(lower)},
	}}
}

// newLayers mounts a part of a stack of layers outside of the tree. The watcher may be nil.
func (t *tree) newLayers(stack *layerfs.Stack, path string, w layerfs.Watcher) (*vfs.Mount, error) {
	return t.vfs.MountDisconnected(t.ctx, t.creds, "layers", layerfs.Name, &vfs.MountOptions{
		ReadOnly: true,
		GetFilesystemOptions: vfs.GetFilesystemOptions{
			InternalMount: true, InternalData: layerfs.Options{Stack: stack, Path: path, Watcher: w},
		},
	})
}

// copyUps returns the watcher of an overlay.
func (t *tree) copyUps(upper *vfs.Mount) layerfs.Watcher {
	return &copyUps{vfs: t.vfs, creds: t.creds, upper: rootOf(upper), times: map[string]linux.StatxTimestamp{}}
}

// newUpper mounts a tmpfs in a file of the scratch directory. Its root directory has the
// attributes of the directory below.
func (t *tree) newUpper(stack *layerfs.Stack, path string) (*vfs.Mount, error) {
	id := checkpoint.ResourceID{ContainerName: t.s.newID(), Path: "/"} // the tmpfs destroys files with an ID
	mf, err := sentry.MemoryFile(t.req.Scratch, id)
	if err != nil {
		return nil, err
	}
	m, err := t.newTmpfs("", tmpfs.FilesystemOpts{MemoryFile: mf, DisableDefaultSizeLimit: true}, vfs.MountFlags{})
	if err != nil {
		mf.Destroy()
		return nil, err
	}
	n, ok := stack.View().Lookup(path)
	if !ok {
		return m, nil
	}
	for name, value := range n.XAttrs {
		if err := t.vfs.SetXattrAt(t.ctx, t.creds, at(rootOf(m), ""), &vfs.SetXattrOptions{Name: name, Value: value}); err != nil {
			m.DecRef(t.ctx)
			return nil, fmt.Errorf("set the attribute %s: %w", name, plain(err))
		}
	}
	mode := int64(n.Mode)
	if path == "." {
		mode = rootMode
	}
	if err := t.setAttributes(at(rootOf(m), ""), int64(n.UID), int64(n.GID), mode, &linux.StatxTimestamp{Sec: n.MTime}); err != nil {
		m.DecRef(t.ctx)
		return nil, err
	}
	return m, nil
}

// attach attaches a mount at a path of the tree and releases it.
func (t *tree) attach(m *vfs.Mount, path string) error {
	defer m.DecRef(t.ctx)
	root := t.mounts.Root(t.ctx)
	defer root.DecRef(t.ctx)
	return t.vfs.ConnectMountAt(t.ctx, t.creds, m, follow(root, path))
}

// mountNew mounts a new file system at a path of the tree.
func (t *tree) mountNew(path, fs string, o *vfs.MountOptions) error {
	o.GetFilesystemOptions.InternalMount = true
	m, err := t.vfs.MountDisconnected(t.ctx, t.creds, fs, fs, o)
	if err != nil {
		return err
	}
	return t.attach(m, path)
}

var noFlags = vfs.MountFlags{NoExec: true, NoDev: true, NoSUID: true}

func (t *tree) mountProc() error {
	return t.mountNew("proc", proc.Name, &vfs.MountOptions{Flags: noFlags, GetFilesystemOptions: vfs.GetFilesystemOptions{InternalData: &proc.InternalData{}}})
}

func (t *tree) mountSys() error {
	if err := t.mountNew("sys", sys.Name, &vfs.MountOptions{Flags: noFlags, ReadOnly: !t.req.Insecure}); err != nil {
		return err
	}
	return t.mountInterfaces()
}

func (t *tree) mountDev() error {
	if err := t.mountNew("dev", dev.Name, &vfs.MountOptions{Flags: vfs.MountFlags{NoSUID: true}}); err != nil {
		return err
	}
	root := t.mounts.Root(t.ctx)
	defer root.DecRef(t.ctx)
	if err := t.vfs.MkdirAt(t.ctx, t.creds, at(root, "dev/mqueue"), &vfs.MkdirOptions{Mode: 0o755}); err != nil {
		return err
	}
	shm := "mode=1777,size=" + strconv.FormatInt(t.req.ShmSize, 10)
	for _, m := range []struct {
		name, fs, data string
		flags          vfs.MountFlags
	}{
		{"pts", devpts.Name, "newinstance,ptmxmode=0666,mode=0620,gid=5", vfs.MountFlags{NoSUID: true, NoExec: true}},
		{"shm", tmpfs.Name, shm, noFlags},
		{"mqueue", mqfs.Name, "", noFlags},
	} {
		o := &vfs.MountOptions{Flags: m.flags, GetFilesystemOptions: vfs.GetFilesystemOptions{Data: m.data}}
		if err := t.mountNew("dev/"+m.name, m.fs, o); err != nil {
			return fmt.Errorf("%s: %w", m.name, plain(err))
		}
	}
	return nil
}

// mountTexts mounts the files that are made for the command.
func (t *tree) mountTexts() error {
	for _, text := range [][2]string{{hostsPath, t.req.HostsFile}, {"etc/resolv.conf", t.req.ResolvConf}} {
		if text[0] == hostsPath && t.req.NoHosts {
			continue
		}
		m, err := t.newFile(text[1], 0, 0, 0o644, false)
		if err == nil {
			err = t.attach(m, text[0])
		}
		if err != nil {
			return fmt.Errorf("%s: %w", text[0], plain(err))
		}
	}
	return nil
}

// attachPending attaches the i-th mount of the request.
func (t *tree) attachPending(i int, target string) error {
	m := t.pending[i]
	root := t.mounts.Root(t.ctx)
	defer root.DecRef(t.ctx)
	path := clean(target)
	switch {
	case path == ".":
		return fmt.Errorf("the root directory cannot be a mount point: %w", unix.EINVAL)
	case path == "proc" || strings.HasPrefix(path, "proc/"):
		return fmt.Errorf("/proc cannot be a mount point: %w", unix.EINVAL)
	}
	dir, err := t.isDir(at(rootOf(m), ""))
	if err != nil {
		return err
	}
	below, err := t.isDir(follow(root, path))
	switch {
	case err != nil:
		// The target is inside another mount, so this does not change the image.
		if err := t.makePoint(root, path, dir); err != nil {
			return fmt.Errorf("make the mount point: %w", plain(err))
		}
	case below && !dir:
		return fmt.Errorf("%w: the target is a directory, and a file cannot be mounted on it: choose another target", unix.EISDIR)
	case !below && dir:
		return fmt.Errorf("%w: the target is a file, and a directory cannot be mounted on it: choose another target", unix.ENOTDIR)
	}
	t.pending[i] = nil
	return t.attach(m, path)
}
