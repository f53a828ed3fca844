package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cachesDir = "caches"
	cacheData = "data"
)

// CacheStore is the part of a Store that holds the directories of cache mounts.
type CacheStore struct{ *disk }

// Sharing is the sharing mode of a cache mount.
type Sharing string

// While a directory is in use, further shared users use it too, private ones get a
// directory of their own, and locked ones wait.
const (
	Shared  Sharing = "shared"
	Private Sharing = "private"
	Locked  Sharing = "locked"
)

// CacheMount is a directory that outlives the steps that write to it.
type CacheMount struct {
	Data string // path of the contents: a directory, or the file that fill made
	lock *os.File
}

// Close releases the directory. The end of the process releases it too.
func (c *CacheMount) Close() { c.lock.Close() }

// CacheMount returns a directory kept under key and locks it according to sharing.
// If there is none to use, it makes one and calls fill with the path at which to put
// the contents. If it has to wait, it calls waiting once. A cancelled ctx ends the
// wait.
func (s *CacheStore) CacheMount(ctx context.Context, key string, sharing Sharing, fill func(data string) error, waiting func()) (*CacheMount, error) {
	parent := s.path(cachesDir, keyName(key))
	for {
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return nil, s.explain("make a cache mount", err)
		}
		names, err := cacheNames(parent)
		if err != nil {
			return nil, s.explain("look for a cache mount", err)
		}
		emptied := false
		for _, name := range names {
			f := tryLock(parent+"/"+name, sharing.lock())
			if f == nil {
				continue
			}
			if c := s.newCacheMount(f, parent+"/"+name); c.whole() {
				return c, nil
			}
			// The contents were removed with the tree of a command that was killed
			// (chroot mode).
			emptied = os.Remove(parent+"/"+name) == nil || emptied
			f.Close()
		}
		if emptied {
			continue
		}
		if sharing == Locked && len(names) > 0 {
			waiting()
			waiting = func() {}
			if err := waitFree(ctx, parent+"/"+names[0]); err != nil {
				return nil, err
			}
			continue
		}
		f, err := s.makeCache(parent, names, sharing, fill)
		if f != nil || err != nil {
			return f, err
		}
	}
}

func (s Sharing) lock() int {
	if s == Shared {
		return unix.LOCK_SH
	}
	return unix.LOCK_EX
}

func (s *CacheStore) newCacheMount(lock *os.File, path string) *CacheMount {
	now := time.Unix(0, max(time.Now().UnixNano(), s.lease.start))
	os.Chtimes(path, now, now) // the time of last use, for Prune and for listings
	return &CacheMount{Data: path + "/" + cacheData, lock: lock}
}

// whole reports whether the contents exist.
func (c *CacheMount) whole() bool {
	_, err := os.Lstat(c.Data)
	return err == nil
}

// cacheNames lists the directories of one key, oldest first.
func cacheNames(parent string) ([]string, error) {
	names, err := readNames(parent)
	slices.SortFunc(names, func(a, b string) int {
		m, _ := strconv.Atoi(a)
		n, _ := strconv.Atoi(b)
		return m - n
	})
	return names, err
}

// makeCache makes one more directory. It returns nil if another process made one
// first: then that one can be shared or waited for.
func (s *CacheStore) makeCache(parent string, names []string, sharing Sharing, fill func(data string) error) (*CacheMount, error) {
	dir := s.lease.next("cache")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, s.explain("make a cache mount", err)
	}
	defer os.RemoveAll(dir)
	if err := fill(dir + "/" + cacheData); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err == nil {
		err = flock(f, sharing.lock()|unix.LOCK_NB)
	}
	if err != nil {
		return nil, s.explain("make a cache mount", err)
	}
	next := 0
	if len(names) > 0 {
		last, _ := strconv.Atoi(names[len(names)-1])
		next = last + 1
	}
	name := parent + "/" + strconv.Itoa(next)
	err = os.Rename(dir, name)
	if err == nil {
		return s.newCacheMount(f, name), nil
	}
	f.Close()
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return nil, s.explain("make a cache mount", err)
}

// tryLock opens and locks a directory, or returns nil if that is not possible now.
func tryLock(path string, how int) *os.File {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	if flock(f, how|unix.LOCK_NB) != nil || !sameFile(f, path) {
		f.Close()
		return nil
	}
	return f
}

// waitFree waits until a directory is not in use. The wait in the kernel cannot be
// interrupted, so it goes on in the background after cancellation.
func waitFree(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil // it was removed: look again
	}
	locked := make(chan struct{})
	go func() {
		flock(f, unix.LOCK_EX)
		f.Close()
		close(locked)
	}()
	select {
	case <-locked:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// eachCache calls f for the directory of each cache mount.
func (s *CacheStore) eachCache(f func(dir string) error) error {
	parents, err := readNames(s.path(cachesDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, parent := range parents {
		names, err := cacheNames(s.path(cachesDir, parent))
		for _, name := range names {
			if err == nil {
				err = f(s.path(cachesDir, parent, name))
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// pruneCaches moves directories that are not in use to the trash: all of them, or
// those not used lately. While other processes live, recently used ones stay: a
// build may be between two steps.
func (p *pruner) pruneCaches() error {
	return p.s.eachCache(func(dir string) error {
		free := tryFree(dir)
		if free == nil {
			return nil
		}
		defer free.Close()
		if (!p.all || !p.alone) && p.fresh(dir) {
			return nil
		}
		if err := p.s.trash.take(dir); err != nil {
			return err
		}
		p.report.Caches++
		os.Remove(filepath.Dir(dir)) // if it is empty
		return nil
	})
}
