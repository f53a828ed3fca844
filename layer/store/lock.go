package store

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Lock waits until no other process, and no other goroutine, holds key, and
// holds it until unlock is called or the process ends. When it must wait it
// calls waiting once, if that is not nil. A cancelled context ends the wait.
func (s *Store) Lock(ctx context.Context, key string, waiting func()) (unlock func(), err error) {
	path := s.path(locksDir, keyName(key))
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, s.explain("lock a key", err)
		}
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			if waiting != nil {
				waiting()
				waiting = nil
			}
			err = flockContext(ctx, f)
		} else if err != nil {
			f.Close()
		}
		if err != nil {
			return nil, s.lockError(ctx, err)
		}
		// The holder before us removed the file: whoever comes now makes a new one.
		if sameFile(f, path) {
			return func() { unlockFile(f, path) }, nil
		}
		f.Close()
	}
}

func (s *Store) lockError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.explain("lock a key", err)
}

// flockContext waits for the lock. The kernel's wait can not be ended, so a
// cancelled one goes on behind and closes the file when its turn comes.
func flockContext(ctx context.Context, f *os.File) error {
	locked := make(chan error, 1)
	go func() { locked <- flock(f, unix.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			f.Close()
		}
		return err
	case <-ctx.Done():
		go func() { <-locked; f.Close() }()
		return ctx.Err()
	}
}

// unlockFile removes the file while it is still locked. One that can not be
// removed stays, empty, until Prune.
func unlockFile(f *os.File, path string) {
	os.Remove(path)
	f.Close()
}
