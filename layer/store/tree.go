package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	keysDir = "keys"
	treeSub = "tree"
	workSub = "work"
)

// Tree is an unpacked directory that is being made. Its path never changes.
type Tree struct {
	Dir  string // the tree, empty, 0755
	Work string // an empty folder beside it, for overlay's workdir; gone after Commit

	s         *Store
	container string
	kept      bool
}

// NewTree makes an empty tree.
func (s *Store) NewTree() (*Tree, error) {
	name := s.lease.name + "." + strconv.FormatInt(s.lease.count.Add(1), 10)
	container := s.boot + "/" + name
	t := &Tree{Dir: container + "/" + treeSub, Work: container + "/" + workSub, s: s, container: container}
	err := os.Mkdir(container, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.makeBoot(); err == nil {
			err = os.Mkdir(container, 0o700)
		}
	}
	// The work folder marks the tree as unfiled, so it is there before the tree.
	if err == nil {
		err = os.Mkdir(t.Work, 0o700)
	}
	if err == nil {
		err = os.Mkdir(t.Dir, 0o755)
	}
	if err == nil {
		err = os.Chmod(t.Dir, 0o755) // whatever the umask
	}
	if err != nil {
		removeTree(container, nil)
		return nil, s.explain("make a tree", err)
	}
	s.keep(container, true)
	return t, nil
}

// makeBoot makes the folder of this boot's trees, whole: whoever can make a tree
// in it can also file it.
func (s *Store) makeBoot() error {
	dir := s.lease.next("boot")
	if err := os.MkdirAll(dir+"/"+keysDir, 0o700); err != nil {
		return err
	}
	spread(dir)
	err := os.Rename(dir, s.boot)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return os.RemoveAll(dir) // somebody was faster
	}
	return err
}

// spread asks ext4 to lay the folders in dir out over the disk. Side by side they
// make it search past every inode that was deleted there lately. Other file
// systems refuse, which does no harm.
func spread(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	const topDir = 0x20000 // FS_TOPDIR_FL
	if flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|topDir)
	}
}

// keep lists or strikes a tree to be removed at Close.
func (s *Store) keep(container string, on bool) {
	s.treeMu.Lock()
	defer s.treeMu.Unlock()
	if on {
		s.kept[container] = true
	} else {
		delete(s.kept, container)
	}
}

// Commit files the tree under key; more keys may follow. When there is
// another tree under key already, that one stays, and this one lives until
// the store is closed. A file system whose overlay was mounted must not be
// mounted any more, or Work is not empty.
func (t *Tree) Commit(key string) error {
	if t.container == "" {
		return fmt.Errorf("file a tree: %w", fs.ErrClosed)
	}
	if _, ok := t.s.Tree(key); ok {
		t.kept = true
		return nil
	}
	if err := t.commit(key); err != nil {
		return t.s.explain("file a tree", err)
	}
	return nil
}

func (t *Tree) commit(key string) error {
	s := t.s
	if r := removeTree(t.Work, nil); r.err != nil {
		return r.err
	}
	s.gcMu.Lock()
	defer s.gcMu.Unlock()
	if err := flock(s.gc, unix.LOCK_SH); err != nil {
		return err
	}
	defer flock(s.gc, unix.LOCK_UN)
	if err := s.mark(t.container, s.lease.start); err != nil {
		return err
	}
	temp := s.lease.next("link")
	if err := os.Symlink("../"+filepath.Base(t.container), temp); err != nil {
		return err
	}
	err := os.Rename(temp, s.keyPath(key))
	if errors.Is(err, fs.ErrNotExist) { // somebody began to delete the store by hand
		if err = os.MkdirAll(s.boot+"/"+keysDir, 0o700); err == nil {
			err = os.Rename(temp, s.keyPath(key))
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	s.keep(t.container, false)
	return nil
}

// Keep leaves the tree where it is, unfiled, until the store is closed.
func (t *Tree) Keep() { t.kept = true }

// Close removes the tree unless it was committed or kept.
func (t *Tree) Close() error {
	container := t.container
	t.container = ""
	if container == "" || t.kept {
		return nil
	}
	t.s.treeMu.Lock()
	unfiled := t.s.kept[container]
	delete(t.s.kept, container)
	t.s.treeMu.Unlock()
	if !unfiled {
		return nil
	}
	if r := removeTree(container, nil); r.err != nil {
		return t.s.explain("remove a tree", r.err)
	}
	return nil
}

// unfiled says whether a tree still has its work folder, so that nobody but
// its maker ever used it.
func unfiled(container string) bool {
	_, err := os.Lstat(container + "/" + workSub)
	return err == nil
}

// Tree returns the folder of the tree filed under key. It stays for as long
// as the store is open.
func (s *Store) Tree(key string) (dir string, ok bool) {
	target, err := os.Readlink(s.keyPath(key))
	if err != nil {
		return "", false
	}
	container := s.boot + "/" + filepath.Base(target)
	if _, ok := s.use(container); !ok {
		return "", false
	}
	return container + "/" + treeSub, true
}

func (s *Store) keyPath(key string) string {
	return s.boot + "/" + keysDir + "/" + keyName(key)
}
