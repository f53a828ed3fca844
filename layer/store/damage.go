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

// DamagedError means that the bytes of a blob did not have its digest. The blob was
// removed, so that it is made or fetched again.
type DamagedError struct{ Digest layer.Digest }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("blob %s was damaged on disk and has been removed: build or pull its image again (cairn check looks for more)", e.Digest)
}

// OpenVerified opens a blob to be sent elsewhere. If the blob is damaged, the reader
// returns a [*DamagedError] instead of its last bytes, and the blob is removed.
func (s *BlobStore) OpenVerified(d layer.Digest) (io.ReadSeekCloser, error) {
	f, err := s.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, s.explain("open blob "+string(d), err)
	}
	return &verified{file: f, s: s, digest: d, left: info.Size(), hash: sha256.New()}, nil
}

// verified hashes the bytes that are read. The first seek reads and verifies the
// whole blob. It does not have the other methods of the file: by them, a connection lets
// the kernel send the file past Read, after which the blob looks damaged.
type verified struct {
	file   *os.File
	s      *BlobStore
	digest layer.Digest
	left   int64
	hash   hash.Hash // nil: already verified
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.file.Read(p)
	if v.hash == nil || err != nil && err != io.EOF {
		return n, err
	}
	v.hash.Write(p[:n])
	if v.left -= int64(n); v.left > 0 && err == nil {
		return n, nil
	}
	if layer.FromHash(v.hash) != v.digest {
		return 0, v.s.damaged(v.digest, v.file)
	}
	return n, err
}

func (v *verified) Close() error { return v.file.Close() }

// WriteTo uses one large buffer.
func (v *verified) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(w, struct{ io.Reader }{v}, make([]byte, copyBuffer))
}

// Seek verifies the whole blob first, since later reads may be partial.
func (v *verified) Seek(offset int64, whence int) (int64, error) {
	if err := v.s.verify(v.digest, v.file); v.hash != nil && err != nil {
		return 0, err
	}
	v.hash = nil
	return v.file.Seek(offset, whence)
}

// VerifyBlob verifies a blob that turned out to be unusable. If it is damaged, it is
// removed and the error is a [*DamagedError].
func (s *BlobStore) VerifyBlob(d layer.Digest) error {
	f, err := s.OpenBlob(d)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.verify(d, f)
}

// verify verifies all bytes of a blob, unless that was done before.
func (s *BlobStore) verify(d layer.Digest, f *os.File) error {
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

// damaged removes the blob of the open file f.
func (s *BlobStore) damaged(d layer.Digest, f *os.File) error {
	var was unix.Stat_t
	if unix.Fstat(int(f.Fd()), &was) == nil && sameFile(f, s.blobPath(d)) {
		if _, err := s.drop(s.blobPath(d), was); err != nil {
			return errors.Join(&DamagedError{d}, s.explain("remove it", err))
		}
	}
	return &DamagedError{d}
}
