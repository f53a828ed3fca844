package store

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// fault is an error of the file system with its remedy.
type fault struct {
	what, why string
	err       error
}

func (f *fault) Error() string { return f.what + ": " + f.why }
func (f *fault) Unwrap() error { return f.err }

// Explain adds the directory and the remedy to an error about a full or read-only
// disk. It returns other errors unchanged.
func (s *Store) Explain(what string, err error) error {
	for _, lack := range []error{unix.ENOSPC, unix.EDQUOT, unix.EROFS} {
		if errors.Is(err, lack) {
			return s.explain(what, err)
		}
	}
	return err
}

// ExplainFull adds the directory and the remedy to an error about a full disk in a text
// that names an attempt already. It must be called before files that the attempt has
// made are removed, since their space or their inodes were the lack. It returns other
// errors unchanged.
func (s *Store) ExplainFull(err error) error {
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	attempt, _ := strings.CutSuffix(err.Error(), ": "+unix.ENOSPC.Error())
	return s.explain(attempt, err)
}

// Full returns an error if the disk of the store has next to no space, or no inodes for
// files, left.
func (s *Store) Full() error {
	switch space, inodes := lack(s.root); {
	case space:
		return errors.New("the disk of the store " + s.root + " is full: " + freeSpace)
	case inodes:
		return errors.New("the disk of the store " + s.root + " has no inodes left for more files (see df -i): " + freeInodes)
	}
	return nil
}

const (
	freeSpace  = "free space there (cairn prune) or choose a directory on another disk with --root"
	freeInodes = "remove files there (cairn prune) or choose a directory on another disk with --root"
)

// lack reports whether the disk of a directory has next to no space or inodes left.
func lack(dir string) (space, inodes bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil || st.Blocks == 0 {
		return false, false
	}
	return st.Bavail*uint64(st.Bsize) < nearlyFull, st.Files > 0 && st.Ffree < nearlyNone
}

const (
	nearlyFull = 128 << 10 // bytes; a program that writes in pieces leaves some
	nearlyNone = 8         // inodes; a failed program may have removed files again
)

// explain wraps an error of the file system. For the usual errors the text names the
// directory of the store and the remedy instead of a temporary file.
func (s *disk) explain(what string, err error) error {
	var old *fault
	if errors.As(err, &old) {
		return err
	}
	why := err.Error()
	switch {
	case errors.Is(err, unix.ENOSPC):
		why = "no space left on the disk of the store " + s.root + ": " + freeSpace
		if space, inodes := lack(s.root); inodes && !space {
			why = "no inodes left for more files on the disk of the store " + s.root + " (see df -i): " + freeInodes
		}
	case errors.Is(err, unix.EDQUOT):
		why = "disk quota exceeded in the store " + s.root + ": " + freeSpace
	case errors.Is(err, unix.EROFS):
		why = "the store " + s.root + " is on a read-only file system: choose a writable directory with --root"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		why = "no permission to write in " + s.root + ": choose a directory of your own with --root"
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		why = "the store " + s.root + " cannot be a directory there (" + err.Error() + "): choose another with --root"
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		why = "too many open files: raise the limit (ulimit -n): " + err.Error()
	}
	return &fault{what: what, why: why, err: err}
}
