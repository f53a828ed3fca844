package tree

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

// Lay copies a tree in overlay form over the directory dir. Afterwards dir holds
// the files that an overlay mount of the two would show. Files are cloned where the
// file system supports that, and hard links within the tree are kept. Neither
// directory may change during the call.
func Lay(dir, tree string) error {
	l := &laying{first: map[fileID]string{}}
	var err error
	if l.to, err = openRoot(dir); err != nil {
		return err
	}
	defer unix.Close(l.to)
	if l.from, err = openRoot(tree); err != nil {
		return err
	}
	defer unix.Close(l.from)
	l.tasks.SetLimit(runtime.GOMAXPROCS(0))
	err = l.dir(l.to, l.from, ".", false)
	_ = l.tasks.Wait()
	if err != nil {
		return fmt.Errorf("lay %s over %s: %w", tree, dir, err)
	}
	return nil
}

// CopyEntry copies the entry at a path below the directory from, which is not a
// directory and whose attributes are in st, to the same, unused path below to.
func CopyEntry(to, from int, path string, st *unix.Stat_t) error {
	return (&laying{to: to, from: from, first: map[fileID]string{}}).file(to, from, path, path, st)
}

// laying is the state of one call of Lay.
type laying struct {
	to, from int
	tasks    errgroup.Group // for subdirectories; no task returns an error
	copier   copier

	mu    sync.Mutex        // held while a file with several links is copied
	first map[fileID]string // the path at which such a file was copied first
}

type fileID struct{ dev, ino uint64 }

// dir copies the directory from over the directory to, which is at path. If it is new,
// it is empty.
func (l *laying) dir(to, from int, path string, isNew bool) error {
	names, err := readNames(from)
	if err != nil {
		return &os.PathError{Op: "read", Path: path, Err: err}
	}
	var subdirs []string
	for _, name := range names {
		isDir, err := l.entry(to, from, name, listing.Join(path, name), isNew)
		if err != nil {
			return err
		}
		if isDir {
			subdirs = append(subdirs, name)
		}
	}
	if err := l.subdirs(to, from, path, subdirs); err != nil {
		return err
	}
	if err := CopyAttributes(to, from); err != nil {
		return &os.PathError{Op: "copy the attributes of", Path: path, Err: err}
	}
	return nil
}

// subdirs copies subdirectories, in other goroutines where processors are free, and
// waits for them.
func (l *laying) subdirs(to, from int, path string, names []string) error {
	var done sync.WaitGroup
	errs := make([]error, len(names))
	for i, name := range names {
		work := func() error {
			defer done.Done()
			errs[i] = l.subdir(to, from, name, listing.Join(path, name))
			return nil
		}
		done.Add(1)
		if i == len(names)-1 || !l.tasks.TryGo(work) {
			_ = work()
		}
	}
	done.Wait()
	return cmp.Or(errs...)
}

// entry copies an entry unless it is a directory, and reports whether it is one.
func (l *laying) entry(to, from int, name, path string, isNew bool) (isDir bool, err error) {
	var st unix.Stat_t
	if err = unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return true, nil
	}
	if !isNew {
		err = removeAll(to, name)
	}
	if err == nil && !IsWhiteout(&st) {
		err = l.file(to, from, name, path, &st)
	}
	if err != nil {
		return false, &os.PathError{Op: "copy", Path: path, Err: err}
	}
	return false, nil
}

func (l *laying) subdir(to, from int, name, path string) error {
	const how = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	src, err := unix.Openat(from, name, how, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(src)
	var opaque [8]byte
	n, err := unix.Fgetxattr(src, OpaqueXAttr, opaque[:])
	hides := err == nil && bytes.Equal(opaque[:n], []byte(OpaqueValue))
	dst, err := unix.Openat(to, name, how, 0)
	if err == nil && hides {
		unix.Close(dst)
		err = unix.ENOTDIR
	}
	if err == unix.ENOTDIR || err == unix.ELOOP {
		if err = removeAll(to, name); err == nil {
			err = unix.ENOENT
		}
	}
	isNew := err == unix.ENOENT
	if isNew {
		if err = unix.Mkdirat(to, name, 0o700); err == nil {
			dst, err = unix.Openat(to, name, how, 0)
		}
	}
	if err != nil {
		return &os.PathError{Op: "make", Path: path, Err: err}
	}
	defer unix.Close(dst)
	return l.dir(dst, src, path, isNew)
}

// file copies an entry that is not a directory to an unused name.
func (l *laying) file(to, from int, name, path string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if st.Nlink == 1 {
			return l.copier.copyIn(to, from, name)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		id := fileID{st.Dev, st.Ino}
		if first, ok := l.first[id]; ok {
			return unix.Linkat(l.to, first, to, name, 0)
		}
		l.first[id] = path
		return l.copier.copyIn(to, from, name)
	case unix.S_IFLNK:
		return copyLink(to, from, name, st)
	}
	err := unix.Mknodat(to, name, st.Mode&^0o7777|0o600, int(st.Rdev))
	if err == unix.EPERM {
		return nil // the process may not make device nodes: only the listing has it
	}
	if err != nil {
		return err
	}
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Fchmodat(to, name, st.Mode&0o7777, 0); err != nil {
		return err
	}
	return setTimes(to, name, st)
}
