package container

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/cmd/cairn-gvisor/layerfs"
	"github.com/cairn-build/cairn/layer/listing"
)

// cacheScan lists the files of a cache on the host, with the attributes of its record.
type cacheScan struct {
	dir        int
	recorded   map[string]listing.Entry
	mount      *guest.Mount
	owners     *owners         // of a volume; nil for a cache
	unreadable map[string]bool // directories of a volume
	times      map[string]layerfs.Time
	list       []listing.Entry
}

// scan lists the entries in the order of a listing. Directories and regular files are
// those of the host. Others are in the record only, unless the host has them.
func (s *cacheScan) scan() error {
	root := listing.Entry{Path: ".", Type: listing.TypeDir, Mode: uint32(s.mount.Mode), UID: int(s.mount.UID), GID: int(s.mount.GID)}
	if e, ok := s.recorded["."]; ok {
		root = e
	}
	s.list = append(s.list, root)
	if err := s.folder("."); err != nil {
		return err
	}
	found := make(map[string]bool, len(s.list))
	for _, e := range s.list {
		found[e.Path] = e.Type == listing.TypeDir
	}
	for _, e := range s.recorded {
		if _, ok := found[e.Path]; ok || e.Type == listing.TypeFile || e.Type == listing.TypeDir {
			continue
		}
		if found[listing.Dir(e.Path)] {
			s.list = append(s.list, e)
		}
	}
	slices.SortFunc(s.list, listing.Compare)
	return nil
}

func (s *cacheScan) folder(path string) error {
	names, err := namesIn(s.dir, path)
	if err == unix.EACCES && s.owners != nil && path != "." {
		s.unreadable[path] = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	for _, name := range names {
		p := listing.Join(path, name)
		var st unix.Stat_t
		err := unix.Fstatat(s.dir, p, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue // another process has removed it
		}
		if err != nil {
			return fmt.Errorf("stat %s: %w", p, err)
		}
		if err := s.add(p, &st); err != nil {
			return fmt.Errorf("read %s: %w", p, err)
		}
	}
	return nil
}

// add adds a file of the host.
func (s *cacheScan) add(path string, st *unix.Stat_t) error {
	e := listing.Entry{
		Path: path, Mode: st.Mode & 0o7777, UID: int(s.mount.UID), GID: int(s.mount.GID), MTime: st.Mtim.Sec,
	}
	if s.owners != nil {
		e.UID, e.GID = s.owners.inside(st)
	}
	old, known := s.recorded[path]
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = listing.TypeFile, st.Size
		if known && old.Type == listing.TypeFile && old.Size == st.Size {
			e = old
		}
		if e.MTime == st.Mtim.Sec && st.Mtim.Nsec != 0 {
			s.times[path] = layerfs.Time{Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec}
		}
	case unix.S_IFDIR:
		e.Type = listing.TypeDir
		if known && old.Type == listing.TypeDir {
			e = old
		}
		s.list = append(s.list, e)
		return s.folder(path)
	case unix.S_IFLNK:
		buf := make([]byte, listing.MaxPath)
		n, err := unix.Readlinkat(s.dir, path, buf)
		if err != nil {
			return err
		}
		e.Type, e.Link = listing.TypeSymlink, string(buf[:n])
		if known && old.Type == listing.TypeSymlink && old.Link == e.Link {
			e = old
		}
	default:
		return nil
	}
	s.list = append(s.list, e)
	return nil
}

// namesIn returns the names in a directory below an open one.
func namesIn(dir int, path string) ([]string, error) {
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var names []string
	for buf := make([]byte, 16<<10); ; {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n == 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// cacheWriter writes changes to the directory of a cache.
type cacheWriter struct{ dir int }

// directory implements sink.
func (w *cacheWriter) directory(c *guest.Change) error {
	if c.Path == "." {
		if c.Opaque {
			return clearDir(w.dir)
		}
		return nil
	}
	var st unix.Stat_t
	err := unix.Fstatat(w.dir, c.Path, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && (c.Opaque || st.Mode&unix.S_IFMT != unix.S_IFDIR) {
		err = removeAll(w.dir, c.Path)
		if err == nil {
			err = unix.ENOENT
		}
	}
	if err == unix.ENOENT {
		return unix.Mkdirat(w.dir, c.Path, 0o700)
	}
	return err
}

// file implements sink. The file appears when close is called, complete.
func (w *cacheWriter) file(c *guest.Change) (int, func() error, error) {
	const temp = ".cairn-new"
	if err := removeAll(w.dir, c.Path); err != nil {
		return -1, nil, err
	}
	name := listing.Join(listing.Dir(c.Path), temp)
	unix.Unlinkat(w.dir, name, 0)
	fd, err := unix.Openat(w.dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, nil, err
	}
	return fd, func() error {
		if err := setTime(w.dir, name, c); err != nil {
			return err
		}
		return unix.Renameat2(w.dir, name, w.dir, c.Path, 0)
	}, nil
}

// setTime sets the modification time of a file.
func setTime(dir int, name string, c *guest.Change) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: c.Sec, Nsec: c.Nsec}}
	return unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW)
}

// link implements sink.
func (w *cacheWriter) link(c *guest.Change, first string) error {
	if err := removeAll(w.dir, c.Path); err != nil {
		return err
	}
	return unix.Linkat(w.dir, first, w.dir, c.Path, 0)
}

// other implements sink.
func (w *cacheWriter) other(c *guest.Change) error { return removeAll(w.dir, c.Path) }

// removeAll removes a path and everything below it, if it exists. It follows no links below
// the directory of the path.
func removeAll(dir int, path string) error {
	err := unix.Unlinkat(dir, path, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = clearDir(fd)
	unix.Close(fd)
	if err != nil {
		return err
	}
	return unix.Unlinkat(dir, path, unix.AT_REMOVEDIR)
}

// clearDir removes everything in an open directory.
func clearDir(dir int) error {
	names, err := namesIn(dir, ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := removeAll(dir, name); err != nil {
			return err
		}
	}
	return nil
}
