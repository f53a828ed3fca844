package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	keysDir = "keys"
	treeSub = "tree"
	workSub = "work"
)

// TreeStore is the part of a Store that holds unpacked directories.
type TreeStore struct {
	*disk
	mu   sync.Mutex
	kept map[string]bool // trees without a key, to be removed by Close
}

// Tree is an unpacked directory in the making. Its path never changes.
type Tree struct {
	Dir  string // the tree, empty, 0755
	Work string // an empty directory beside it, for the workdir of an overlay; removed by Commit

	s         *TreeStore
	container string
	kept      bool
}

// NewTree makes an empty tree. The caller must close it.
func (s *TreeStore) NewTree() (*Tree, error) {
	name := s.lease.name + "." + strconv.FormatInt(s.lease.count.Add(1), 10)
	container := s.boot + "/" + name
	t := &Tree{Dir: container + "/" + treeSub, Work: container + "/" + workSub, s: s, container: container}
	err := os.Mkdir(container, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.makeBoot(); err == nil {
			err = os.Mkdir(container, 0o700)
		}
	}
	// The work directory marks a tree without a key, so it is made first.
	if err == nil {
		err = os.Mkdir(t.Work, 0o700)
	}
	if err == nil {
		err = os.Mkdir(t.Dir, 0o755)
	}
	if err == nil {
		err = os.Chmod(t.Dir, 0o755) // regardless of the umask
	}
	if err != nil {
		removeTree(container, nil)
		return nil, s.explain("make a tree", err)
	}
	s.keep(container, true)
	return t, nil
}

// makeBoot makes the directory of this boot's trees atomically: a process that can
// make a tree in it can also store it under a key.
func (s *TreeStore) makeBoot() error {
	dir := s.lease.next("boot")
	if err := os.MkdirAll(dir+"/"+keysDir, 0o700); err != nil {
		return err
	}
	spread(dir)
	err := os.Rename(dir, s.boot)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return os.RemoveAll(dir) // another process was faster
	}
	return err
}

// spread asks ext4 to spread the subdirectories of dir over the disk. Otherwise it
// searches past every inode that was deleted near them lately. Other file systems
// refuse, without harm.
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

// keep adds a tree to those to be removed by Close, or takes it out.
func (s *TreeStore) keep(container string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.kept[container] = true
	} else {
		delete(s.kept, container)
	}
}

// close removes the trees without a key.
func (s *TreeStore) close() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for dir := range s.kept {
		err = errors.Join(err, removeTree(dir, nil).err)
	}
	clear(s.kept)
	return err
}

// Commit stores the tree under key. It may be called with several keys. If another
// tree is stored under key, that one stays, and this tree exists until the store is
// closed. An overlay with Work as its workdir must be unmounted before.
func (t *Tree) Commit(key string) error {
	if t.container == "" {
		return fmt.Errorf("store a tree: %w", fs.ErrClosed)
	}
	if _, ok := t.s.Tree(key); ok {
		t.kept = true
		return nil
	}
	if err := t.commit(key); err != nil {
		return t.s.explain("store a tree", err)
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
	if errors.Is(err, fs.ErrNotExist) { // the store is being deleted by hand
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

// Keep keeps the tree, without a key, until the store is closed.
func (t *Tree) Keep() { t.kept = true }

// Close removes the tree unless Commit or Keep was called.
func (t *Tree) Close() error {
	container := t.container
	t.container = ""
	if container == "" || t.kept {
		return nil
	}
	t.s.mu.Lock()
	keyless := t.s.kept[container]
	delete(t.s.kept, container)
	t.s.mu.Unlock()
	if !keyless {
		return nil
	}
	if r := removeTree(container, nil); r.err != nil {
		return t.s.explain("remove a tree", r.err)
	}
	return nil
}

// keyless reports whether a tree still has its work directory, so that only its
// maker has used it.
func keyless(container string) bool {
	_, err := os.Lstat(container + "/" + workSub)
	return err == nil
}

// Tree returns the directory of the tree stored under key. It stays while the store
// is open.
func (s *TreeStore) Tree(key string) (dir string, ok bool) {
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

// Take returns the tree stored under key to a caller that will change it, and removes the
// key. Of several callers, one gets it. The caller must close the tree or commit it again.
func (s *TreeStore) Take(key string) (*Tree, bool) {
	s.gcMu.Lock()
	defer s.gcMu.Unlock()
	if flock(s.gc, unix.LOCK_SH) != nil { // against Prune
		return nil, false
	}
	defer flock(s.gc, unix.LOCK_UN)
	link := s.lease.next("link")
	if os.Rename(s.keyPath(key), link) != nil {
		return nil, false
	}
	target, err := os.Readlink(link)
	if err := errors.Join(err, os.Remove(link)); err != nil {
		return nil, false
	}
	// From now on the tree belongs to this process, and is removed if that is killed.
	container := s.boot + "/" + s.lease.name + "." + strconv.FormatInt(s.lease.count.Add(1), 10)
	if os.Rename(s.boot+"/"+filepath.Base(target), container) != nil {
		return nil, false
	}
	s.keep(container, true)
	t := &Tree{Dir: container + "/" + treeSub, Work: container + "/" + workSub, s: s, container: container}
	if os.Mkdir(t.Work, 0o700) != nil {
		t.Close()
		return nil, false
	}
	return t, true
}

// Variant returns the key of another tree with the files of the one that has the given
// key. [Store.Check] verifies it like that one.
func Variant(key string, id int64) string { return fmt.Sprintf("%s\x00%x", key, uint64(id)) }

func (s *TreeStore) keyPath(key string) string {
	key, id, ok := strings.Cut(key, "\x00")
	name := keyName(key)
	if ok {
		name += "." + id
	}
	return s.boot + "/" + keysDir + "/" + name
}
