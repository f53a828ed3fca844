package tarball

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

const copyBuffer = 256 << 10

// A copier copies and hashes the contents of files.
type copier struct {
	buf  []byte
	hash hash.Hash
}

func newCopier() *copier {
	return &copier{buf: make([]byte, copyBuffer), hash: sha256.New()}
}

// change copies the contents of a change to w and sets its digest, and its Content
// if the listing has that. It fails if the source does not have the size and digest
// of the change. It returns the mtime of a source that is [Timed].
func (c *copier) change(w io.Writer, ch *Change) (mtime *time.Time, err error) {
	var src io.Reader = emptyReader{}
	if ch.Size > 0 {
		if ch.Open == nil {
			return nil, errors.New("no source for its contents")
		}
		f, err := ch.Open()
		if err != nil {
			return nil, err
		}
		defer f.Close()
		src = f
		if t, ok := f.(Timed); ok {
			at, err := t.ModTime()
			if err != nil {
				return nil, err
			}
			mtime = &at
		}
	}
	err = c.same(w, src, ch)
	if g, ok := src.(Guarded); ok && errors.Is(err, errChanged) {
		return nil, g.Changed(err)
	}
	return mtime, err
}

// Guarded is a source that must not change while it is read. If it did, Changed
// wraps the error with an explanation.
type Guarded interface{ Changed(err error) error }

var errChanged = errors.New("changed while it was read")

// same copies the contents of a change and verifies its size and digest.
func (c *copier) same(w io.Writer, src io.Reader, ch *Change) error {
	want := ch.Digest
	if err := c.file(w, src, &ch.Entry); err != nil {
		return err
	}
	if ch.Size > 0 {
		if n, _ := io.ReadFull(src, c.buf[:1]); n > 0 {
			return fmt.Errorf("%w: larger than its %d bytes", errChanged, ch.Size)
		}
	}
	if want != "" && want != ch.Digest {
		return fmt.Errorf("%w: its digest differs", errChanged)
	}
	return nil
}

// file copies e.Size bytes from r to w and sets e's digest and content.
func (c *copier) file(w io.Writer, r io.Reader, e *listing.Entry) error {
	c.hash.Reset()
	e.Content = nil
	carries := listing.CarriesContent(e.Path) && e.Size <= listing.MaxContent
	for left := e.Size; left > 0; {
		n, err := r.Read(c.buf[:min(left, copyBuffer)])
		p := c.buf[:n]
		left -= int64(n)
		c.hash.Write(p)
		if carries {
			e.Content = append(e.Content, p...)
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		if err != nil && left > 0 {
			return shortError(err, e.Size, left)
		}
	}
	if d := layer.FromHash(c.hash); d != e.Digest { // otherwise keep the string that is in use already
		e.Digest = d
	}
	return nil
}

func shortError(err error, size, left int64) error {
	if err == io.EOF {
		return fmt.Errorf("%w: %d bytes instead of %d", errChanged, size-left, size)
	}
	return err
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, io.EOF }
