package compress

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	sniffBytes = 6
	// maxWindow bounds the memory for a zstd window or an xz dictionary. It is the
	// default limit of the zstd and xz programs.
	maxWindow = 128 << 20
)

var (
	gzipMagic  = []byte{0x1f, 0x8b, 8}
	zstdMagic  = []byte{0x28, 0xb5, 0x2f, 0xfd}
	bzip2Magic = []byte("BZh")
	xzMagic    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
)

// NewReader returns the decompressed bytes of r, which may be in gzip, zstd, bzip2
// or xz format or uncompressed. A goroutine decompresses a few buffers ahead. Close
// stops it but does not close r, which must not be used until a Read in progress has
// returned.
func NewReader(r io.Reader) (io.ReadCloser, error) {
	src := bufio.NewReaderSize(r, 128<<10)
	head, err := src.Peek(sniffBytes)
	if err != nil && err != io.EOF {
		return nil, err
	}
	d, err := decompress(src, head)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if d == nil {
		return io.NopCloser(src), nil
	}
	return &ahead{src: d}, nil
}

// Detect returns the format of a file with the beginning head: "gzip", "zstd",
// "bzip2", "xz", or "" for none of these.
func Detect(head []byte) string {
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return "gzip"
	case bytes.HasPrefix(head, zstdMagic), skippable(head):
		return "zstd"
	case bytes.HasPrefix(head, bzip2Magic) && len(head) > 3 && head[3] >= '1' && head[3] <= '9':
		return "bzip2"
	case bytes.HasPrefix(head, xzMagic):
		return "xz"
	}
	return ""
}

// skippable reports whether head is a frame without data, with which archives of
// parallel zstd compressors begin.
func skippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}

// decompress returns nil if the format is none of the known ones.
func decompress(src *bufio.Reader, head []byte) (io.ReadCloser, error) {
	switch Detect(head) {
	case "gzip":
		return gzip.NewReader(src)
	case "zstd":
		d, err := zstd.NewReader(src,
			zstd.WithDecoderConcurrency(1), // no goroutines of its own
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow),
			zstd.WithDecoderMaxMemory(1<<63-1), // frames can be large; their window is not
		)
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(src)), nil
	case "xz":
		return newXZ(src)
	}
	return nil, nil
}

const (
	aheadBytes   = 256 << 10
	aheadBuffers = 4
)

// An ahead reads src ahead of its reader. Input that fits in the first buffer is
// read without a goroutine.
type ahead struct {
	src   io.ReadCloser
	rest  []byte // of the current chunk
	chunk chunk
	err   error // after rest

	full, free chan chunk
	stop       chan struct{}
}

type chunk struct {
	buf []byte // as allocated
	n   int
	err error // after the first n bytes
}

func (a *ahead) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(a.rest) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		a.next()
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (a *ahead) next() {
	switch {
	case a.chunk.buf == nil:
		a.chunk = fill(a.src, make([]byte, 32<<10))
	default:
		if a.full == nil {
			a.start()
		} else {
			a.free <- a.chunk
		}
		a.chunk = <-a.full
	}
	a.rest, a.err = a.chunk.buf[:a.chunk.n], a.chunk.err
}

func (a *ahead) start() {
	a.full = make(chan chunk, aheadBuffers)
	a.free = make(chan chunk, aheadBuffers)
	a.stop = make(chan struct{})
	for range aheadBuffers {
		a.free <- chunk{buf: make([]byte, aheadBytes)}
	}
	go a.run()
}

// run reads src until the end and closes it.
func (a *ahead) run() {
	defer a.src.Close()
	for {
		select {
		case <-a.stop:
			return
		case c := <-a.free:
			c = fill(a.src, c.buf)
			a.full <- c
			if c.err != nil {
				return
			}
		}
	}
}

// fill reads until buf is full, or an error.
func fill(r io.Reader, buf []byte) chunk {
	c := chunk{buf: buf}
	for c.n < len(buf) && c.err == nil {
		var n int
		n, c.err = r.Read(buf[c.n:])
		c.n += n
	}
	return c
}

func (a *ahead) Close() error {
	if a.err == io.ErrClosedPipe {
		return nil
	}
	a.rest, a.err = nil, io.ErrClosedPipe
	if a.full == nil {
		return a.src.Close()
	}
	close(a.stop)
	return nil
}
