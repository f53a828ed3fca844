package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
)

// DamagedError says that a blob was not what its name says. It is dropped, so
// that it is made or fetched anew.
type DamagedError struct{ Digest layer.Digest }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("blob %s was damaged on disk and is dropped: build or pull its image again (cairn check looks for more)", e.Digest)
}

// OpenVerified opens a blob that is to leave the store. A damaged one ends in a
// [*DamagedError] in place of its last bytes, and is dropped.
func (s *Store) OpenVerified(d layer.Digest) (io.ReadSeekCloser, error) {
	f, err := s.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, s.explain("open blob "+string(d), err)
	}
	return &verified{File: f, s: s, digest: d, left: info.Size(), hash: sha256.New()}, nil
}

// verified hashes what is read, up to the first seek, which reads all.
type verified struct {
	*os.File
	s      *Store
	digest layer.Digest
	left   int64
	hash   hash.Hash // nil: it is verified
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.File.Read(p)
	if v.hash == nil || err != nil && err != io.EOF {
		return n, err
	}
	v.hash.Write(p[:n])
	if v.left -= int64(n); v.left > 0 && err == nil {
		return n, nil
	}
	if layer.FromHash(v.hash) != v.digest {
		return 0, v.s.damaged(v.digest, v.File)
	}
	return n, err
}

// WriteTo hides that of the file, which would not verify.
func (v *verified) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(w, struct{ io.Reader }{v}, make([]byte, copyBuffer))
}

// Seek verifies the whole blob first: what comes after may be read in parts.
func (v *verified) Seek(offset int64, whence int) (int64, error) {
	if err := v.s.verify(v.digest, v.File); v.hash != nil && err != nil {
		return 0, err
	}
	v.hash = nil
	return v.File.Seek(offset, whence)
}

// VerifyBlob reads a blob again that turned out to be of no use. A damaged one is
// dropped, and a [*DamagedError].
func (s *Store) VerifyBlob(d layer.Digest) error {
	f, err := s.OpenBlob(d)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.verify(d, f)
}

// verify reads all of a blob, and remembers those that are whole.
func (s *Store) verify(d layer.Digest, f *os.File) error {
	if _, whole := s.whole.Load(d); whole {
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return s.explain("read blob "+string(d), err)
	}
	if layer.FromHash(h) != d {
		return s.damaged(d, f)
	}
	s.whole.Store(d, true)
	return nil
}

// damaged drops the blob that f is.
func (s *Store) damaged(d layer.Digest, f *os.File) error {
	var was unix.Stat_t
	if unix.Fstat(int(f.Fd()), &was) == nil && sameFile(f, s.blobPath(d)) {
		if _, err := s.drop(s.blobPath(d), was); err != nil {
			return errors.Join(&DamagedError{d}, s.explain("drop it", err))
		}
	}
	return &DamagedError{d}
}

// drop takes the file that was looked at from its place. A whole one that got
// the name in the same moment stays.
func (s *Store) drop(path string, was unix.Stat_t) (bool, error) {
	aside := s.lease.next("damaged")
	if err := os.Rename(path, aside); err != nil {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(aside, &st); err != nil {
		return false, err
	}
	if st.Dev != was.Dev || st.Ino != was.Ino {
		return false, os.Rename(aside, path)
	}
	return true, removeTree(aside, nil).err
}
