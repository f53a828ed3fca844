package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
)

func (s *Store) blobPath(d layer.Digest) string {
	return s.path(blobsDir, d.Hex())
}

// BlobSize returns the size of a blob, and whether it is there. It counts as
// a use: the blob stays for as long as the store is open.
func (s *Store) BlobSize(d layer.Digest) (int64, bool) {
	if d.Validate() != nil {
		return 0, false
	}
	st, ok := s.use(s.blobPath(d))
	return st.Size, ok
}

// OpenBlob opens a blob for reading. A missing one is fs.ErrNotExist.
func (s *Store) OpenBlob(d layer.Digest) (*os.File, error) {
	if _, ok := s.BlobSize(d); !ok {
		return nil, notExist("blob " + string(d))
	}
	f, err := os.Open(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notExist("blob " + string(d))
	}
	if err != nil {
		return nil, s.explain("open blob "+string(d), err)
	}
	return f, nil
}

// BlobWriter writes a blob whose digest is not known yet. Without Commit
// nothing of it stays.
type BlobWriter struct {
	s       *Store
	f       *os.File // nil after Commit or Close
	size    int64
	flushed int64
}

// NewBlob starts a blob.
func (s *Store) NewBlob() (*BlobWriter, error) {
	f, err := os.OpenFile(s.lease.next("blob"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, s.explain("write a blob", err)
	}
	return &BlobWriter{s: s, f: f}, nil
}

// flushEvery is how much is written before the disk is told to begin with it,
// so that the sync at the end finds little to do.
const flushEvery = 8 << 20

// Write appends to the blob.
func (w *BlobWriter) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, fmt.Errorf("write a blob: %w", fs.ErrClosed)
	}
	n, err := w.f.Write(p)
	w.size += int64(n)
	if w.size-w.flushed >= flushEvery {
		// Advice: where it is not understood, the sync does it all.
		_ = unix.SyncFileRange(int(w.f.Fd()), w.flushed, w.size-w.flushed, unix.SYNC_FILE_RANGE_WRITE)
		w.flushed = w.size
	}
	if err != nil {
		return n, w.s.explain("write a blob", err)
	}
	return n, nil
}

// Size is how much was written.
func (w *BlobWriter) Size() int64 { return w.size }

// Follow opens what is written for a reader beside the writer, until Commit or
// Close; what was opened can be read after that.
func (w *BlobWriter) Follow() (*os.File, error) {
	f, err := os.Open(w.f.Name())
	if err != nil {
		return nil, w.s.explain("read a blob", err)
	}
	return f, nil
}

// Commit files the blob as d, which must be the digest of what was written.
func (w *BlobWriter) Commit(d layer.Digest) error {
	return w.commit(d, true)
}

func (w *BlobWriter) commit(d layer.Digest, sync bool) error {
	if w.f == nil {
		return fmt.Errorf("file blob %s: %w", d, fs.ErrClosed)
	}
	if err := d.Validate(); err != nil {
		return fmt.Errorf("file a blob: %w", err)
	}
	path := w.s.blobPath(d)
	if st, ok := w.s.use(path); ok && st.Size == w.size {
		return w.Close()
	}
	var err error
	if sync {
		err = w.f.Sync()
	}
	if err == nil {
		err = w.s.mark(w.f.Name(), w.s.lease.start)
	}
	if err == nil {
		err = os.Rename(w.f.Name(), path)
	}
	if err != nil {
		return errors.Join(w.s.explain("file blob "+string(d), err), w.Close())
	}
	done := written{folder: w.s.path(blobsDir)}
	if sync {
		err = w.f.Close()
	} else {
		done.f = w.f
	}
	w.f = nil
	w.s.sync.add(done)
	return err
}

// Close removes what was not committed. It may be called more than once.
func (w *BlobWriter) Close() error {
	if w.f == nil {
		return nil
	}
	err := errors.Join(os.Remove(w.f.Name()), w.f.Close())
	w.f = nil
	return err
}

// PutBlob stores what r gives, which must have that digest and size.
func (s *Store) PutBlob(d layer.Digest, size int64, r io.Reader) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("store a blob: %w", err)
	}
	w, err := s.NewBlob()
	if err != nil {
		return err
	}
	defer w.Close()
	sum := sha256.New()
	if err := copyExactly(w, sum, size, r); err != nil {
		return fmt.Errorf("store blob %s: %w", d, err)
	}
	if got := layer.FromHash(sum); got != d {
		return fmt.Errorf("store blob %s: its bytes have the digest %s", d, got)
	}
	return w.Commit(d)
}

const copyBuffer = 256 << 10

// copyExactly copies size bytes and checks that there are no more.
func copyExactly(w io.Writer, sum hash.Hash, size int64, r io.Reader) error {
	limited := &io.LimitedReader{R: r, N: size}
	// The plain structs hide ReadFrom and WriteTo, for a larger buffer.
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.TeeReader(limited, sum)}, make([]byte, min(size+1, copyBuffer)))
	if err != nil {
		return err
	}
	if n < size {
		return fmt.Errorf("it ended after %d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	var one [1]byte
	if n, _ := io.ReadFull(r, one[:]); n > 0 {
		return fmt.Errorf("it is longer than the %d bytes it should have", size)
	}
	return nil
}

// PutBytes stores a small blob and returns its digest. It is for what is read
// with ReadBytes, which notices damage: it is synced behind the build.
func (s *Store) PutBytes(b []byte) (layer.Digest, error) {
	d := layer.FromBytes(b)
	if size, ok := s.BlobSize(d); ok && size == int64(len(b)) {
		return d, nil
	}
	w, err := s.NewBlob()
	if err != nil {
		return "", err
	}
	defer w.Close()
	if _, err := w.Write(b); err != nil {
		return "", err
	}
	return d, w.commit(d, false)
}

// ReadBytes reads a blob of at most max bytes and verifies it. A damaged one
// is removed, and is missing then (fs.ErrNotExist), so that it is had anew.
func (s *Store) ReadBytes(d layer.Digest, max int64) ([]byte, error) {
	f, err := s.OpenBlob(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(f, max+1))
	if err != nil {
		return nil, s.explain("read blob "+string(d), err)
	}
	if n > max {
		return nil, fmt.Errorf("read blob %s: it has more than %d bytes", d, max)
	}
	if layer.FromBytes(b.Bytes()) != d {
		os.Remove(s.blobPath(d))
		return nil, fmt.Errorf("blob %s was damaged on disk and is dropped: %w", d, fs.ErrNotExist)
	}
	return b.Bytes(), nil
}
