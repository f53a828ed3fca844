package container

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"gvisor.dev/gvisor/pkg/sentry/vfs"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/cmd/cairn-gvisor/layerfs"
	"github.com/cairn-build/cairn/layer/listing"
)

// volume is a directory or file of the host that a command sees as it was at its start. Its
// changes are written back when it has ended.
type volume struct {
	file   string // name of the file in the directory, "" if the volume is the directory
	owners owners
}

// owners relates the owners of files on the host to those that a command sees. A process
// that may not give files away owns the files of root in the container, as in a user
// namespace.
type owners struct {
	uid, gid uint32
	same     bool // the owners are the same
}

// nobody is the owner of the files that belong to other users of the host.
const nobody = 65534

func (o *owners) inside(st *unix.Stat_t) (uid, gid int) {
	if o.same {
		return int(st.Uid), int(st.Gid)
	}
	uid, gid = nobody, nobody
	if st.Uid == o.uid {
		uid = 0
	}
	if st.Gid == o.gid {
		gid = 0
	}
	return uid, gid
}

// mayOwn is set if this process may give files to other users.
var mayOwn = func() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&head, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_CHOWN) != 0
}()

// identity is the user of this process.
var identity = owners{uid: uint32(os.Getuid()), gid: uint32(os.Getgid()), same: mayOwn}

// mountVolume mounts a directory, regular file or listening socket of the host.
func (t *tree) mountVolume(m *guest.Mount) (*vfs.Mount, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(unix.AT_FDCWD, m.Source, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, fmt.Errorf("%s: %w", m.Source, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		socket := *m
		uid, gid := identity.inside(&st)
		socket.UID, socket.GID, socket.Mode = int64(uid), int64(gid), int64(st.Mode&0o777)
		return t.newSocket(&socket)
	case unix.S_IFREG:
		file := *m
		file.Subpath = path.Base(m.Source)
		return t.mountCache(&file)
	case unix.S_IFDIR:
		return t.mountCache(m)
	}
	return nil, errors.New("the volume is neither a directory, a regular file nor a socket")
}

// scanVolume lists the files of a volume.
func scanVolume(c *cache, m *guest.Mount) (*cacheScan, error) {
	c.volume = &volume{owners: identity}
	if m.Subpath != "" {
		c.volume.file, c.dir = m.Subpath, path.Dir(m.Source)
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	s := &cacheScan{dir: c.fd, mount: m, owners: &c.volume.owners, times: map[string]layerfs.Time{}, unreadable: map[string]bool{}}
	var st unix.Stat_t
	err := unix.Fstat(c.fd, &st)
	if err == nil {
		uid, gid := s.owners.inside(&st)
		s.recorded = map[string]listing.Entry{
			".": {Path: ".", Type: listing.TypeDir, Mode: st.Mode & 0o7777, UID: uid, GID: gid, MTime: st.Mtim.Sec},
		}
		err = s.scanFor(c.volume.file)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", m.Source, err)
	}
	return s, nil
}

// scanFor lists a file, or everything if the name is "".
func (s *cacheScan) scanFor(name string) error {
	if name == "" {
		return s.scan()
	}
	s.list = append(s.list, s.recorded["."])
	var st unix.Stat_t
	if err := unix.Fstatat(s.dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return s.add(name, &st)
}

// saveVolume writes the changes in a volume to the host. Sockets, FIFOs, devices and
// extended attributes are not written.
func (t *tree) saveVolume(c *cache) error {
	changes := &walker{tree: t, root: rootOf(c.upper), sink: &volumeWriter{c.fd, c}}
	return changes.run()
}

// volumeWriter writes changes to the directory of a volume.
type volumeWriter struct {
	dir int
	c   *cache
}

// same reports whether the attributes, and the content of a file, are those that the
// command has found.
func (w *volumeWriter) same(c *guest.Change) bool {
	n, ok := w.c.stack.View().Lookup(c.Path)
	if !ok || n.Mode != uint32(c.Mode&0o7777) || int64(n.UID) != c.UID || int64(n.GID) != c.GID {
		return false
	}
	if n.Type != listing.TypeFile {
		return n.Type == listing.TypeDir && c.Mode&unix.S_IFMT == unix.S_IFDIR && !c.Opaque
	}
	at := w.c.stack.Time(&n)
	return c.Mode&unix.S_IFMT == unix.S_IFREG && n.Size == c.Size && at == layerfs.Time{Sec: c.Sec, Nsec: c.Nsec}
}

// in returns the open directory of a path and the path's name in it. Other processes of the
// host may change the volume meanwhile: no link is followed.
func (w *volumeWriter) in(p string) (cacheWriter, string, error) {
	dir, base := path.Split(p)
	fd, err := unix.Openat(w.dir, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	for name := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		if err != nil || name == "" {
			break
		}
		parent := fd
		fd, err = unix.Openat(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(parent)
	}
	return cacheWriter{fd}, base, err
}

// directory implements sink.
func (w *volumeWriter) directory(c *guest.Change) error {
	if w.c.volume.file != "" || w.same(c) {
		return nil
	}
	at, name, err := w.in(c.Path)
	if err != nil {
		return err
	}
	defer unix.Close(at.dir)
	if c.Path == "." {
		at.dir, name = w.dir, "."
	}
	made := *c
	made.Path = name
	if err := at.directory(&made); err != nil {
		return err
	}
	fd, err := unix.Openat(at.dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return w.attributes(fd, c)
}

// attributes sets the owner and mode of an open file.
func (w *volumeWriter) attributes(fd int, c *guest.Change) error {
	if w.c.volume.owners.same {
		if err := unix.Fchown(fd, int(c.UID), int(c.GID)); err != nil {
			return err
		}
	}
	return unix.Fchmod(fd, uint32(c.Mode&0o7777))
}

// file implements sink.
func (w *volumeWriter) file(c *guest.Change) (int, func() error, error) {
	if w.same(c) || w.c.volume.file != "" && w.c.volume.file != c.Path {
		return -1, nil, nil
	}
	if w.c.volume.file != "" {
		fd, err := unix.Openat(w.dir, c.Path, unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return fd, func() error { return w.attributes(fd, c) }, err
	}
	at, name, err := w.in(c.Path)
	if err != nil {
		return -1, nil, err
	}
	made := *c
	made.Path = name
	fd, rename, err := at.file(&made)
	if err != nil {
		unix.Close(at.dir)
	}
	return fd, func() error {
		defer unix.Close(at.dir)
		if err := w.attributes(fd, c); err != nil {
			return err
		}
		return rename()
	}, err
}

// link implements sink.
func (w *volumeWriter) link(c *guest.Change, first string) error {
	if w.c.volume.file != "" {
		return nil
	}
	from, old, err := w.in(first)
	if err != nil {
		return err
	}
	defer unix.Close(from.dir)
	to, name, err := w.in(c.Path)
	if err != nil {
		return err
	}
	defer unix.Close(to.dir)
	if err := removeAll(to.dir, name); err != nil {
		return err
	}
	return unix.Linkat(from.dir, old, to.dir, name, 0)
}

// other implements sink.
func (w *volumeWriter) other(c *guest.Change) error {
	if w.c.volume.file != "" {
		return nil
	}
	at, name, err := w.in(c.Path)
	if err != nil {
		return err
	}
	defer unix.Close(at.dir)
	if err := removeAll(at.dir, name); err != nil || c.Mode&unix.S_IFMT != unix.S_IFLNK {
		return err
	}
	if err := unix.Symlinkat(c.Link, at.dir, name); err != nil {
		return err
	}
	if w.c.volume.owners.same {
		return unix.Fchownat(at.dir, name, int(c.UID), int(c.GID), unix.AT_SYMLINK_NOFOLLOW)
	}
	return nil
}
