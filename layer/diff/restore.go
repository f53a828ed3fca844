package diff

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/tree"
)

// ErrInexact means that Restore could not make a path as it was. The tree is then of no
// use.
var ErrInexact = errors.New("the path cannot be restored exactly")

// Restore changes the plain tree root from its state now back to an earlier state, in
// which it was equal to the lower trees, topmost first, merged. It copies only the paths
// that differ, and updates the earlier record to the result. It fails with ErrInexact if
// the trees do not have a path as it was recorded, or if a file has several links.
func Restore(ctx context.Context, root string, earlier, now *Record, lowers []string) error {
	r := &restore{earlier: earlier, now: now}
	err := r.open(root, lowers)
	defer r.close()
	if err == nil {
		err = r.run(ctx)
	}
	if err != nil {
		return fmt.Errorf("restore the tree %s: %w", root, err)
	}
	return earlier.pass(ctx)
}

type restore struct {
	earlier, now *Record
	root         place
	lowers       []int // descriptors
}

func (r *restore) open(root string, lowers []string) (err error) {
	const how = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if r.root.fd, err = unix.Open(root, how, 0); err != nil {
		return err
	}
	for _, dir := range lowers {
		fd, err := unix.Open(dir, how, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: dir, Err: err}
		}
		r.lowers = append(r.lowers, fd)
	}
	return nil
}

func (r *restore) close() {
	unix.Close(r.root.fd)
	for _, fd := range r.lowers {
		unix.Close(fd)
	}
}

func (r *restore) run(ctx context.Context) error {
	paths := r.differing()
	for _, step := range []struct {
		op    string
		paths []string
		do    func(name string) error
	}{{"remove", reversed(paths), r.remove}, {"copy", paths, r.make}, {"copy the attributes of", reversed(paths), r.attributes}, {"compare", paths, r.check}} {
		for _, name := range step.paths {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := step.do(name); err != nil {
				return &os.PathError{Op: step.op, Path: name, Err: err}
			}
		}
	}
	from, err := openDir(r.lowers[0], ".")
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return tree.CopyAttributes(r.root.fd, from)
}

func reversed(paths []string) []string {
	all := slices.Clone(paths)
	slices.Reverse(all)
	return all
}

// differing returns the paths that are not the same in both records, and their parents.
func (r *restore) differing() []string {
	all := map[string]bool{}
	add := func(name string) {
		for ; name != "." && !all[name]; name = path.Dir(name) {
			all[name] = true
		}
	}
	for name, st := range r.now.stamps {
		if old, ok := r.earlier.stamps[name]; !ok || old != st {
			add(name)
		}
	}
	for name := range r.earlier.stamps {
		if _, ok := r.now.stamps[name]; !ok {
			add(name)
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// stays reports whether a path is a directory in both states.
func (r *restore) stays(name string) bool {
	old, was := r.earlier.stamps[name]
	st, is := r.now.stamps[name]
	return was && is && old.isDir() && st.isDir()
}

func (r *restore) remove(name string) error {
	st, ok := r.now.stamps[name]
	if !ok || r.stays(name) {
		return nil
	}
	return remove(r.root.fd, name, st.isDir())
}

func (r *restore) make(name string) error {
	old, ok := r.earlier.stamps[name]
	if !ok || r.stays(name) {
		return nil
	}
	if old.isDir() {
		return unix.Mkdirat(r.root.fd, name, 0o700)
	}
	from, st, err := r.source(name)
	switch {
	case err == errMountPoint && old.mode&unix.S_IFMT == unix.S_IFREG && old.size == 0:
		fd, err := unix.Openat(r.root.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return old.set(fd)
	case err != nil:
		return err
	case st.Nlink > 1:
		return ErrInexact
	}
	return tree.CopyEntry(r.root.fd, from, name, &st)
}

// set sets the owner, mode and mtime of an open file or directory.
func (s stamp) set(fd int) error {
	return errors.Join(unix.Fchown(fd, int(s.uid), int(s.gid)), unix.Fchmod(fd, s.mode&0o7777), setFileTime(fd, s.mtime))
}

func setFileTime(fd int, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}, unix.AT_EMPTY_PATH)
}

// errMountPoint means that no lower tree has a path. In the earlier state it was an empty
// file or directory.
var errMountPoint = fmt.Errorf("%w: no layer has it", ErrInexact)

// source returns the topmost lower tree that has a path.
func (r *restore) source(name string) (fd int, st unix.Stat_t, err error) {
	for _, fd := range r.lowers {
		switch err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); {
		case err == unix.ENOENT || err == unix.ENOTDIR:
			continue
		case err != nil:
			return 0, st, err
		case tree.IsWhiteout(&st):
			return 0, st, ErrInexact
		}
		return fd, st, nil
	}
	return 0, st, errMountPoint
}

func (r *restore) attributes(name string) error {
	old := r.earlier.stamps[name]
	if !old.isDir() {
		return nil
	}
	to, err := openDir(r.root.fd, name)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	lower, _, err := r.source(name)
	if err == errMountPoint {
		return errors.Join(tree.CopyAttributes(to, to), old.set(to))
	}
	if err != nil {
		return err
	}
	from, err := openDir(lower, name)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return tree.CopyAttributes(to, from)
}

func openDir(dir int, name string) (fd int, err error) {
	return unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// check records a path that was restored. All but its inode and ctime must be as before.
func (r *restore) check(name string) error {
	old, ok := r.earlier.stamps[name]
	if !ok {
		return nil
	}
	st, err := r.earlier.see(r.root, name)
	if err != nil {
		return err
	}
	old.inode, old.ctime = st.inode, st.ctime
	if old != st {
		return ErrInexact
	}
	return nil
}

// Digest returns a digest of the record, by which a later process can tell whether the
// tree has changed.
func (r *Record) Digest() string {
	h := sha256.New()
	var buf []byte
	for _, name := range slices.Sorted(maps.Keys(r.stamps)) {
		s := r.stamps[name]
		buf = append(append(buf[:0], name...), 0)
		for _, v := range []uint64{s.dev, s.ino, uint64(s.mode), uint64(s.uid), uint64(s.gid), s.rdev, uint64(s.size),
			uint64(s.mtime.Nano()), uint64(s.ctime.Nano())} {
			buf = binary.LittleEndian.AppendUint64(buf, v)
		}
		h.Write(buf)
	}
	return hex.EncodeToString(h.Sum(nil))
}
