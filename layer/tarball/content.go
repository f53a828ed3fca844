package tarball

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/index"
)

const copyBuffer = 256 << 10

// A copier copies the bytes of files and takes their digests.
type copier struct {
	buf  []byte
	hash hash.Hash
}

func newCopier() *copier {
	return &copier{buf: make([]byte, copyBuffer), hash: sha256.New()}
}

// change copies a change's bytes to w and fills in what only they tell: the
// digest, and the content where an entry carries it. A source that is not what
// the change says has changed since.
func (c *copier) change(w io.Writer, ch *Change) error {
	var src io.Reader = emptyReader{}
	if ch.Size > 0 {
		if ch.Open == nil {
			return errors.New("no source for its bytes")
		}
		f, err := ch.Open()
		if err != nil {
			return err
		}
		defer f.Close()
		src = f
	}
	err := c.same(w, src, ch)
	if g, ok := src.(Guarded); ok && errors.Is(err, errChanged) {
		return g.Changed(err)
	}
	return err
}

// Guarded is a source that nobody should change: it says what it means that the bytes
// are not those that they were.
type Guarded interface{ Changed(err error) error }

var errChanged = errors.New("changed while it was read")

// same copies a change's bytes, and wants them to be those that it had.
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
		return fmt.Errorf("%w: other bytes than before", errChanged)
	}
	return nil
}

// file copies e.Size bytes from r to w and sets e's digest and content.
func (c *copier) file(w io.Writer, r io.Reader, e *index.Entry) error {
	c.hash.Reset()
	e.Content = nil
	carries := index.CarriesContent(e.Path) && e.Size <= index.MaxContent
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
	if d := layer.FromHash(c.hash); d != e.Digest { // else one string will do for both
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
