package container

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/sentry/fsimpl/overlay"
	"gvisor.dev/gvisor/pkg/sentry/vfs"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/cmd/cairn-gvisor/layerfs"
	"github.com/cairn-build/cairn/layer/listing"
)

// cache is a directory of the host that keeps its content between commands. Its files
// belong to the user of this process; a record has their attributes. In a volume they have
// those of the host.
type cache struct {
	source      string // of its mounts
	dir, record string
	fd          int     // the directory
	volume      *volume // nil for a cache
	stack       *layerfs.Stack
	upper       *vfs.Mount
	mount       *vfs.Mount // of everything
}

// mountCache mounts a cache or a part of it. A cache that is mounted twice is one file
// system.
func (t *tree) mountCache(m *guest.Mount) (*vfs.Mount, error) {
	c, err := t.cache(m)
	if err != nil {
		return nil, err
	}
	vd, err := t.vfs.GetDentryAt(t.ctx, t.creds, follow(rootOf(c.mount), clean(m.Subpath)), &vfs.GetDentryOptions{})
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", clean(m.Subpath), plain(err))
	}
	defer vd.DecRef(t.ctx)
	return t.vfs.NewDisconnectedMount(c.mount.Filesystem(), vd.Dentry(), &vfs.MountOptions{
		ReadOnly: m.ReadOnly, Flags: vfs.MountFlags{NoDev: true},
	}), nil
}

// cache returns the cache of a mount, which it opens if it is the first of that cache.
func (t *tree) cache(m *guest.Mount) (*cache, error) {
	for _, c := range t.caches {
		if c.source == m.Source {
			return c, nil
		}
	}
	if m.Type == guest.MountCache {
		return t.joinCache(m)
	}
	c, err := t.openCache(m)
	t.caches = append(t.caches, c)
	return c, err
}

// openCache mounts everything in a cache or volume. The caller closes the result, even with
// an error.
func (t *tree) openCache(m *guest.Mount) (*cache, error) {
	c, scan := &cache{source: m.Source, dir: m.Source, record: m.Record, fd: -1}, scanCache
	if m.Type == guest.MountVolume {
		scan = scanVolume
	}
	s, err := scan(c, m)
	if err != nil {
		return c, err
	}
	l, err := layerfs.NewLayer(c.dir, string((&listing.Listing{Entries: s.list}).Encode()), s.times)
	if err != nil {
		return c, fmt.Errorf("read %s: %w", c.dir, err)
	}
	l.Unreadable = s.unreadable
	c.stack = layerfs.Empty().With(l)
	if c.upper, err = t.newUpper(c.stack, "."); err != nil {
		return c, err
	}
	lower, err := t.newLayers(c.stack, ".", t.copyUps(c.upper))
	if err != nil {
		return c, err
	}
	defer lower.DecRef(t.ctx)
	root := s.list[0]
	if err := t.setAttributes(at(rootOf(c.upper), ""), int64(root.UID), int64(root.GID), int64(root.Mode), nil); err != nil {
		return c, err
	}
	c.mount, err = t.vfs.MountDisconnected(t.ctx, t.creds, "overlay", overlay.Name, &vfs.MountOptions{
		GetFilesystemOptions: overlayOptions(c.upper, lower),
	})
	return c, err
}

// open opens the directory of a cache or volume.
func (c *cache) open() (err error) {
	c.fd, err = unix.Open(c.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", c.dir, err)
	}
	return nil
}

// scanCache lists the files of a cache.
func scanCache(c *cache, m *guest.Mount) (*cacheScan, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	recorded, err := readRecord(m.Record)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.Record, err)
	}
	s := &cacheScan{dir: c.fd, recorded: recorded, mount: m, times: map[string]layerfs.Time{}}
	if err := s.scan(); err != nil {
		return nil, fmt.Errorf("read %s: %w", m.Source, err)
	}
	return s, nil
}

// close releases everything.
func (c *cache) close(ctx context.Context) {
	for _, m := range []*vfs.Mount{c.mount, c.upper} {
		if m != nil {
			m.DecRef(ctx)
		}
	}
	if c.stack != nil {
		c.stack.Close()
	}
	if c.fd >= 0 {
		unix.Close(c.fd)
	}
}

// leaveCaches writes the changes in all caches to the host. Those in volumes are written
// only if the command has run. Caches that are not used any more are left in t.unused.
func (t *tree) leaveCaches(ran bool) (err error) {
	for _, c := range t.caches {
		if c.volume == nil {
			err = cmp.Or(err, t.leaveCache(c))
			continue
		}
		t.unused = append(t.unused, c)
		if ran && err == nil {
			if err = t.saveVolume(c); err != nil {
				err = fmt.Errorf("write the changes of the command to the volume %s: %w", c.dir, plain(err))
			}
		}
	}
	t.caches = nil
	return err
}

// closeCaches releases the caches of t.unused.
func (t *tree) closeCaches() {
	for _, c := range t.unused {
		c.close(t.ctx)
	}
}

// saveCache writes the changed files of a cache, then its record. If it is interrupted, the
// files without a matching record have the attributes of a new cache.
func (t *tree) saveCache(c *cache) error {
	w := &cacheWriter{dir: c.fd}
	changes := &walker{tree: t, root: rootOf(c.upper), sink: w}
	if err := changes.run(); err != nil {
		return err
	}
	if len(changes.list) == 1 && !changes.changedRoot(c.stack) {
		return nil
	}
	view := c.stack.View().WithLayer(&listing.Listing{Entries: entriesOf(changes.list)})
	var entries []listing.Entry
	if err := view.Walk(".", func(n listing.Node) error {
		e := n.Entry
		if n.Type == listing.TypeHardlink {
			e.Type, e.Link = listing.TypeFile, ""
		}
		entries = append(entries, e)
		return nil
	}); err != nil {
		return err
	}
	slices.SortFunc(entries, listing.Compare)
	return writeRecord(c.record, (&listing.Listing{Entries: entries}).Encode())
}

// changedRoot reports whether the root directory differs from the one below.
func (w *walker) changedRoot(stack *layerfs.Stack) bool {
	n, _ := stack.View().Lookup(".")
	c := w.list[0]
	return c.UID != int64(n.UID) || c.GID != int64(n.GID) || c.Mode&0o7777 != int64(n.Mode) || c.Sec != n.MTime || len(c.XAttrs) != len(n.XAttrs)
}

// entriesOf converts the paths of an upper file system to the entries of a layer.
func entriesOf(list []guest.Change) (entries []listing.Entry) {
	for _, c := range list {
		e := listing.Entry{
			Path: c.Path, Mode: uint32(c.Mode & 0o7777), UID: int(c.UID), GID: int(c.GID), Size: c.Size, MTime: c.Sec, Link: c.Link,
		}
		for _, a := range c.XAttrs {
			if e.XAttrs == nil {
				e.XAttrs = map[string]string{}
			}
			e.XAttrs[a.Name] = a.Value
		}
		switch c.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			e.Type = listing.TypeFile
		case unix.S_IFDIR:
			e.Type = listing.TypeDir
		case unix.S_IFLNK:
			e.Type = listing.TypeSymlink
		case unix.S_IFIFO:
			e.Type = listing.TypeFifo
		case unix.S_IFBLK:
			e.Type, e.Major, e.Minor = listing.TypeBlock, uint32(c.Major), uint32(c.Minor)
		case unix.S_IFCHR:
			e.Type, e.Major, e.Minor = listing.TypeChar, uint32(c.Major), uint32(c.Minor)
			if c.Major == 0 && c.Minor == 0 {
				e = listing.Entry{Path: c.Path, Type: listing.TypeWhiteout}
			}
		default: // a socket
			continue
		}
		entries = append(entries, e)
		if c.Opaque {
			entries = append(entries, listing.Entry{Path: c.Path, Type: listing.TypeOpaque})
		}
	}
	slices.SortFunc(entries, listing.Compare)
	return entries
}

// readRecord returns the entries of a record by their paths; none if the file is missing
// or damaged.
func readRecord(name string) (map[string]listing.Entry, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	text := make([]byte, st.Size)
	for n := 0; n < len(text); {
		got, err := unix.Pread(fd, text[n:], int64(n))
		if err != nil {
			return nil, err
		}
		if got == 0 {
			return nil, nil
		}
		n += got
	}
	x, err := listing.Decode(text)
	if err != nil {
		return nil, nil
	}
	entries := make(map[string]listing.Entry, len(x.Entries))
	for _, e := range x.Entries {
		entries[e.Path] = e
	}
	return entries, nil
}

// writeRecord replaces a record.
func writeRecord(name string, text []byte) error {
	dir, err := unix.Open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	temp := path.Base(name) + ".new"
	fd, err := unix.Openat(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		if err != nil {
			return err
		}
		text = text[n:]
	}
	return unix.Renameat2(dir, temp, dir, path.Base(name), 0)
}
