// Package compress compresses layer tars on all cores and decompresses layers in
// every format that images use.
//
// A Writer computes both digests of a layer in one pass: the diff ID of its input
// and the digest of its output. Input is cut into blocks of a fixed size that are
// compressed independently, each gzip block with the end of the previous one as its
// dictionary. So the output depends on the input only, not on the number of cores or
// the sizes of writes. Input that fits in one block is compressed without a
// goroutine.
//
// A Reader detects the format, decompresses in this process without running a
// program, and bounds the memory that a hostile header can make it allocate.
package compress

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/cairn-build/cairn/layer"
)

// Format is a compression format.
type Format string

// The formats for writing.
const (
	Gzip         Format = "gzip"
	Zstd         Format = "zstd"
	Uncompressed Format = "uncompressed"
)

// Options are the format and level. The zero value is gzip at its default level.
type Options struct {
	Format Format
	// Level is 1 to 9 for gzip and 1 to 22 for zstd; 0 is the format's default.
	Level int
}

// Writer compresses the bytes written to it and describes the result.
type Writer struct {
	out    *counter
	diff   hash.Hash
	codec  codec
	stream *stream // nil if not compressed
	media  string
	level  int
	blob   layer.Descriptor
	err    error
}

// NewWriter returns a writer that compresses into w.
func NewWriter(w io.Writer, o Options) (*Writer, error) {
	c := &Writer{out: &counter{w: w, hash: sha256.New()}, level: o.Level}
	switch o.Format {
	case "", Gzip:
		if o.Level < 0 || o.Level > 9 {
			return nil, fmt.Errorf("compression level %d: gzip has 1 to 9", o.Level)
		}
		c.media, c.codec = layer.MediaTypeGzip, newGzip(o.Level)
	case Zstd:
		if o.Level < 0 || o.Level > 22 {
			return nil, fmt.Errorf("compression level %d: zstd has 1 to 22", o.Level)
		}
		c.media, c.codec = layer.MediaTypeZstd, newZstd(o.Level)
	case Uncompressed:
		if o.Level != 0 {
			return nil, fmt.Errorf("compression level %d: the format is uncompressed", o.Level)
		}
		c.media = layer.MediaTypeTar
		return c, nil
	default:
		return nil, fmt.Errorf("compression %q: want gzip, zstd or uncompressed", o.Format)
	}
	c.diff = sha256.New()
	c.stream = newStream(c.codec, c.out, c.diff)
	return c, nil
}

// Write compresses p. An error of the underlying writer may be returned by a later
// call.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	var n int
	if w.stream == nil {
		n, w.err = w.out.Write(p)
	} else {
		n, w.err = w.stream.Write(p)
	}
	return n, w.err
}

// Close finishes the stream and releases its resources, also after an error. It does
// not close the underlying writer.
func (w *Writer) Close() error {
	if w.blob.Digest != "" || w.err == errClosed {
		return nil
	}
	if w.stream != nil {
		if err := w.stream.Close(); w.err == nil {
			w.err = err
		}
	}
	if w.err != nil {
		err := w.err
		w.err = errClosed
		return err
	}
	w.err = errClosed
	w.blob = layer.Descriptor{MediaType: w.media, Digest: layer.FromHash(w.out.hash), Size: w.out.n, Level: w.level}
	w.blob.DiffID = w.blob.Digest
	if w.diff != nil {
		w.blob.DiffID = layer.FromHash(w.diff)
	}
	return nil
}

// Blob returns the descriptor of the output. It is valid after a Close without an
// error.
func (w *Writer) Blob() layer.Descriptor { return w.blob }

// A counter passes bytes on and counts and hashes them.
type counter struct {
	w    io.Writer
	hash hash.Hash
	n    int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.hash.Write(p[:n])
	c.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}
