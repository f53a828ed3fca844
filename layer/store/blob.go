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
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
)

// BlobStore is the part of a Store that holds blobs.
type BlobStore struct {
	*disk
	whole sync.Map // digests of the blobs that were verified
}

func (s *BlobStore) blobPath(d layer.Digest) string {
	return s.path(blobsDir, d.Hex())
}

// TouchBlob marks a blob as used, so that it stays while the store is open, and
// returns its size. It returns false if the blob is missing.
func (s *BlobStore) TouchBlob(d layer.Digest) (int64, bool) {
	if d.Validate() != nil {
		return 0, false
	}
	st, ok := s.use(s.blobPath(d))
	return st.Size, ok
}

// StatBlob returns the size of a blob without marking it as used. It returns false
// if the blob is missing.
func (s *BlobStore) StatBlob(d layer.Digest) (size int64, ok bool) {
	var st unix.Stat_t
	if d.Validate() != nil || unix.Lstat(s.blobPath(d), &st) != nil {
		return 0, false
	}
	return st.Size, true
}

// OpenBlob opens a blob for reading. The error is fs.ErrNotExist if it is missing.
func (s *BlobStore) OpenBlob(d layer.Digest) (*os.File, error) {
	if _, ok := s.TouchBlob(d); !ok {
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

// BlobWriter writes a blob whose digest is not known yet. Close discards it unless
// Commit was called.
type BlobWriter struct {
	s       *BlobStore
	f       *os.File // nil after Commit or Close
	size    int64
	flushed int64
}

// NewBlob starts a new blob. The caller must close the writer.
func (s *BlobStore) NewBlob() (*BlobWriter, error) {
	f, err := os.OpenFile(s.lease.next("blob"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, s.explain("write a blob", err)
	}
	return &BlobWriter{s: s, f: f}, nil
}

// flushEvery is the number of bytes after which the kernel is asked to start
// writing, so that the final sync is short.
const flushEvery = 8 << 20

// Write appends to the blob.
func (w *BlobWriter) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, fmt.Errorf("write a blob: %w", fs.ErrClosed)
	}
	n, err := w.f.Write(p)
	w.size += int64(n)
	if w.size-w.flushed >= flushEvery {
		// This is a hint. Where it is not supported, the final sync writes
		// everything.
		_ = unix.SyncFileRange(int(w.f.Fd()), w.flushed, w.size-w.flushed, unix.SYNC_FILE_RANGE_WRITE)
		w.flushed = w.size
	}
	if err != nil {
		return n, w.s.explain("write a blob", err)
	}
	return n, nil
}

// Size returns the number of bytes written.
func (w *BlobWriter) Size() int64 { return w.size }

// Follow opens the unfinished blob for reading. It must be called before Commit or
// Close; the returned file stays readable after them. The caller closes it.
func (w *BlobWriter) Follow() (*os.File, error) {
	f, err := os.Open(w.f.Name())
	if err != nil {
		return nil, w.s.explain("read a blob", err)
	}
	return f, nil
}

// Commit stores the blob as d, which must be the digest of the written bytes.
func (w *BlobWriter) Commit(d layer.Digest) error {
	return w.commit(d, true)
}

func (w *BlobWriter) commit(d layer.Digest, sync bool) error {
	if w.f == nil {
		return fmt.Errorf("store blob %s: %w", d, fs.ErrClosed)
	}
	if err := d.Validate(); err != nil {
		return fmt.Errorf("store a blob: %w", err)
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
		return errors.Join(w.s.explain("store blob "+string(d), err), w.Close())
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

// Close discards the blob if it was not committed. It may be called more than once.
func (w *BlobWriter) Close() error {
	if w.f == nil {
		return nil
	}
	err := errors.Join(os.Remove(w.f.Name()), w.f.Close())
	w.f = nil
	return err
}

// PutBlob stores the bytes of r, which must have the given digest and size.
func (s *BlobStore) PutBlob(d layer.Digest, size int64, r io.Reader) error {
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

// copyExactly copies size bytes and fails if r has more or fewer.
func copyExactly(w io.Writer, sum hash.Hash, size int64, r io.Reader) error {
	limited := &io.LimitedReader{R: r, N: size}
	// The structs hide ReadFrom and WriteTo, which would use a smaller buffer.
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.TeeReader(limited, sum)}, make([]byte, min(size+1, copyBuffer)))
	if err != nil {
		return err
	}
	if n < size {
		return fmt.Errorf("ended after %d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	var one [1]byte
	if n, _ := io.ReadFull(r, one[:]); n > 0 {
		return fmt.Errorf("longer than its %d bytes", size)
	}
	return nil
}

// PutBytes stores a small blob, to be read with ReadBytes, and returns its digest.
// It is synced in the background, since ReadBytes detects damage.
func (s *BlobStore) PutBytes(b []byte) (layer.Digest, error) {
	d := layer.FromBytes(b)
	if size, ok := s.TouchBlob(d); ok && size == int64(len(b)) {
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

// ReadBytes reads a blob of at most max bytes and verifies it. A damaged blob is
// removed, and the error is then fs.ErrNotExist, so that it is fetched again.
func (s *BlobStore) ReadBytes(d layer.Digest, max int64) ([]byte, error) {
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
		return nil, fmt.Errorf("read blob %s: more than %d bytes", d, max)
	}
	if layer.FromBytes(b.Bytes()) != d {
		os.Remove(s.blobPath(d))
		return nil, fmt.Errorf("blob %s was damaged on disk and has been removed: %w", d, fs.ErrNotExist)
	}
	return b.Bytes(), nil
}
