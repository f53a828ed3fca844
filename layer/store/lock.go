package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Lock locks key, waiting until no other process or goroutine holds it. The lock is
// held until unlock is called or the process ends. If it has to wait, it calls
// waiting once, if not nil. A cancelled ctx ends the wait.
//
// The lock of a key is one byte of an empty file, chosen by a hash and locked for
// the open file description, so no file has to be made and removed.
func (s *Store) Lock(ctx context.Context, key string, waiting func()) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.path(locksFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, s.explain("lock a key", err)
	}
	at := lockOffset(key)
	err = lockByte(f, at, unix.F_OFD_SETLK)
	if err == unix.EAGAIN || err == unix.EACCES {
		if waiting != nil {
			waiting()
		}
		return s.waitForByte(ctx, f, at)
	}
	if err != nil {
		f.Close()
		return nil, s.explain("lock a key", err)
	}
	return func() { f.Close() }, nil
}

// waitForByte waits for the lock. The wait in the kernel cannot be interrupted, so
// after cancellation it goes on in the background and then releases the lock.
func (s *disk) waitForByte(ctx context.Context, f *os.File, at int64) (unlock func(), err error) {
	locked := make(chan error, 1)
	go func() { locked <- lockByte(f, at, unix.F_OFD_SETLKW) }()
	select {
	case err := <-locked:
		if err != nil {
			f.Close()
			return nil, s.explain("lock a key", err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() { <-locked; f.Close() }()
		return nil, ctx.Err()
	}
}

func lockOffset(key string) int64 {
	sum := sha256.Sum256([]byte(key))
	return int64(binary.LittleEndian.Uint64(sum[:]) >> 2)
}

func lockByte(f *os.File, at int64, cmd int) error {
	for {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
		if err := unix.FcntlFlock(f.Fd(), cmd, &l); err != unix.EINTR {
			return err
		}
	}
}
