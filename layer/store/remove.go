package store

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// trash is the directory of entries to be removed. A goroutine empties it in the
// background; a later process removes the rest.
type trash struct {
	dir  string
	stop atomic.Bool
	work sync.WaitGroup
}

func newTrash(dir string) *trash { return &trash{dir: dir} }

// take moves a file or directory to the trash.
func (b *trash) take(path string) error {
	err := os.Rename(path, b.dir+"/"+randomName(8))
	if errors.Is(err, os.ErrPermission) && os.Chmod(path, 0o700) == nil {
		err = os.Rename(path, b.dir+"/"+randomName(8))
	}
	return err
}

// start empties the trash in the background.
func (b *trash) start() {
	names, _ := readNames(b.dir)
	if len(names) > 0 {
		b.work.Go(func() { b.empty(names, &b.stop) })
	}
}

func (b *trash) empty(names []string, stop *atomic.Bool) removed {
	var total removed
	for _, name := range names {
		r := removeTree(b.dir+"/"+name, stop)
		total.files += r.files
		total.bytes += r.bytes
	}
	return total
}

// sweepNow empties the trash and returns the number of files and bytes removed.
func (b *trash) sweepNow() removed {
	b.work.Wait()
	names, _ := readNames(b.dir)
	return b.empty(names, nil)
}

// close stops the removal after the current file.
func (b *trash) close() {
	b.stop.Store(true)
	b.work.Wait()
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// removed counts removed files and the bytes freed. A file with other links frees
// none.
type removed struct {
	files, bytes int64
	err          error // the first, except for a missing path
}

// removeTree removes path and everything below it, until stop is set. It works with
// file descriptors, since trees can have paths longer than the kernel's limit, and
// does not follow symlinks.
func removeTree(path string, stop *atomic.Bool) removed {
	r := &remover{stop: stop}
	r.remove(unix.AT_FDCWD, path)
	return r.removed
}

type remover struct {
	removed
	stop *atomic.Bool
}

func (r *remover) remove(parent int, name string) {
	if r.stop != nil && r.stop.Load() {
		return
	}
	var st unix.Stat_t
	err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		r.fail("stat", name, err)
		return
	}
	flags := 0
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		flags = unix.AT_REMOVEDIR
		r.removeChildren(parent, name)
	}
	if err := unix.Unlinkat(parent, name, flags); err != nil {
		if r.stop == nil || !r.stop.Load() {
			r.fail("remove", name, err)
		}
		return
	}
	r.files++
	if flags != 0 || st.Nlink == 1 {
		r.bytes += st.Blocks * 512
	}
}

func (r *remover) removeChildren(parent int, name string) {
	const how = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(parent, name, how, 0)
	if err == unix.EACCES && unix.Fchmodat(parent, name, 0o700, 0) == nil {
		fd, err = unix.Openat(parent, name, how, 0)
	}
	if err != nil {
		r.fail("open", name, err)
		return
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		r.fail("read", name, err)
	}
	if len(names) > 0 && unix.Faccessat(fd, ".", unix.W_OK|unix.X_OK, 0) != nil {
		_ = unix.Fchmod(fd, 0o700)
	}
	for _, child := range names {
		r.remove(fd, child)
	}
}

func (r *remover) fail(op, name string, err error) {
	if err != unix.ENOENT && r.err == nil {
		r.err = &os.PathError{Op: op, Path: name, Err: err}
	}
}
