package store

import (
	"errors"

	"golang.org/x/sys/unix"
)

// fault is an error of the disk with what to do about it.
type fault struct {
	what, why string
	err       error
}

func (f *fault) Error() string { return f.what + ": " + f.why }
func (f *fault) Unwrap() error { return f.err }

// Explain wraps an error of a file in the store: one of the usual says which folder
// it is about, and what to do; others stay as they are.
func (s *Store) Explain(what string, err error) error {
	for _, lack := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS} {
		if errors.Is(err, lack) {
			return s.explain(what, err)
		}
	}
	return err
}

// Full says that the disk of the store has no room, or next to none; nil: it has.
func (s *Store) Full() error {
	var st unix.Statfs_t
	if unix.Statfs(s.root, &st) != nil || st.Blocks == 0 {
		return nil
	}
	if st.Bavail*uint64(st.Bsize) >= nearlyFull && (st.Files == 0 || st.Ffree > 0) {
		return nil
	}
	return errors.New("the disk of the store " + s.root + " is full: make room there (cairn prune), or choose a folder on another disk with --root")
}

const nearlyFull = 128 << 10 // bytes; whoever writes in pieces leaves some

// explain wraps an error of the file system. The usual ones name the folder
// and the remedy in place of a temporary file that nobody knows.
func (s *Store) explain(what string, err error) error {
	var old *fault
	if errors.As(err, &old) {
		return err
	}
	why := err.Error()
	switch {
	case errors.Is(err, unix.ENOSPC):
		why = "no space left on the disk of the store " + s.root + ": make room there (cairn prune), or choose a folder on another disk with --root"
	case errors.Is(err, unix.EDQUOT):
		why = "disk quota exceeded in the store " + s.root + ": make room there (cairn prune), or choose a folder on another disk with --root"
	case errors.Is(err, unix.EROFS):
		why = "the store " + s.root + " is on a read-only file system: choose a folder that can be written with --root"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		why = "no permission to write in the store " + s.root + ": choose a folder of your own with --root"
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		why = "the store " + s.root + " can not be a folder there (" + err.Error() + "): choose another with --root"
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		why = "too many open files: raise the limit (ulimit -n): " + err.Error()
	}
	return &fault{what: what, why: why, err: err}
}
