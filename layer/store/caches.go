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

// Sharing says who may use a cache folder at once.
type Sharing string

// Of those who come while a folder is in use, shared ones join each other,
// private ones get a folder of their own, and locked ones wait.
const (
	Shared  Sharing = "shared"
	Private Sharing = "private"
	Locked  Sharing = "locked"
)

// CacheFolder is a folder that outlives the steps which write to it.
type CacheFolder struct {
	Data string // what is kept: a folder, or whatever was filled in
	lock *os.File
}

// Close lets others use the folder. So does the end of the process.
func (c *CacheFolder) Close() { c.lock.Close() }

// CacheFolder gives the folder kept under key, or another one under it, and
// keeps others from it as sharing says. A new one is made by fill, which puts
// something at the path that it is given. When it must wait, it calls waiting
// once. A cancelled context ends the wait.
func (s *Store) CacheFolder(ctx context.Context, key string, sharing Sharing, fill func(data string) error, waiting func()) (*CacheFolder, error) {
	parent := s.path(cachesDir, keyName(key))
	for {
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return nil, s.explain("make a cache folder", err)
		}
		names, err := cacheNames(parent)
		if err != nil {
			return nil, s.explain("look for a cache folder", err)
		}
		emptied := false
		for _, name := range names {
			f := tryLock(parent+"/"+name, sharing.lock())
			if f == nil {
				continue
			}
			if c := s.newCacheFolder(f, parent+"/"+name); c.whole() {
				return c, nil
			}
			// Its data went with the tree of a command that was killed, by chroot.
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

func (s *Store) newCacheFolder(lock *os.File, path string) *CacheFolder {
	now := time.Unix(0, max(time.Now().UnixNano(), s.lease.start))
	os.Chtimes(path, now, now) // for Prune, and for people who look when it was used
	return &CacheFolder{Data: path + "/" + cacheData, lock: lock}
}

// whole tells whether the data is there.
func (c *CacheFolder) whole() bool {
	_, err := os.Lstat(c.Data)
	return err == nil
}

// cacheNames lists the folders of one key, oldest first.
func cacheNames(parent string) ([]string, error) {
	names, err := readNames(parent)
	slices.SortFunc(names, func(a, b string) int {
		m, _ := strconv.Atoi(a)
		n, _ := strconv.Atoi(b)
		return m - n
	})
	return names, err
}

// makeCache makes one more folder. It returns nothing if somebody else was
// faster: then there is one to be shared or waited for.
func (s *Store) makeCache(parent string, names []string, sharing Sharing, fill func(data string) error) (*CacheFolder, error) {
	dir := s.lease.next("cache")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, s.explain("make a cache folder", err)
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
		return nil, s.explain("make a cache folder", err)
	}
	next := 0
	if len(names) > 0 {
		last, _ := strconv.Atoi(names[len(names)-1])
		next = last + 1
	}
	name := parent + "/" + strconv.Itoa(next)
	err = os.Rename(dir, name)
	if err == nil {
		return s.newCacheFolder(f, name), nil
	}
	f.Close()
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return nil, s.explain("make a cache folder", err)
}

// tryLock opens and locks a folder that allows it now, or returns nil.
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

// waitFree waits until nobody uses a folder. The kernel's wait can not be
// ended, so a cancelled one goes on behind.
func waitFree(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil // gone: look again
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

// eachCache calls f for each cache folder.
func (s *Store) eachCache(f func(dir string) error) error {
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

// pruneCaches moves the cache folders that nobody uses to the trash: all, or those that
// were not used lately. Between two steps of a build that lives, those of the first stay.
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
		if err := p.s.broom.take(dir); err != nil {
			return err
		}
		p.report.Caches++
		os.Remove(filepath.Dir(dir)) // if it is empty
		return nil
	})
}
