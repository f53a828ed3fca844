package sbom

import (
	"errors"
	"io"
	"os"
)

// inMemory is the number of bytes of a file that are kept in memory. The rest is in a
// temporary file.
const inMemory = 8 << 20

// contents keeps the bytes of one file. It is reused for the next.
type contents struct {
	name  string // last element of the path
	dir   string
	max   int64
	sniff bool // the file is of no use unless it begins as an executable does
	skip  bool // it doesn't
	size  int64
	head  []byte
	rest  *os.File
	err   error
}

func (c *contents) begin(dir string, max int64, sniff bool) {
	c.dir, c.max, c.sniff, c.skip, c.size, c.head, c.err = dir, max, sniff, false, 0, c.head[:0], nil
	if c.rest != nil {
		c.err = c.rest.Truncate(0)
	}
}

func (c *contents) close() {
	if c.rest != nil {
		_ = c.rest.Close() // it has no name
	}
}

// Write keeps the bytes up to the limit. An error is returned by the end of the file only, so
// that the layer is read further.
func (c *contents) Write(b []byte) (int, error) {
	n := len(b)
	if c.size == 0 && c.sniff {
		c.skip = !isExecutable(b)
	}
	if c.skip || c.err != nil || c.size >= c.max {
		return n, nil
	}
	if int64(len(b)) > c.max-c.size {
		b = b[:c.max-c.size]
	}
	if room := inMemory - len(c.head); room > 0 {
		part := b[:min(room, len(b))]
		c.head = append(c.head, part...)
		c.size += int64(len(part))
		b = b[len(part):]
	}
	if len(b) > 0 && c.open() {
		_, c.err = c.rest.WriteAt(b, c.size-inMemory)
		c.size += int64(len(b))
	}
	return n, nil
}

func (c *contents) open() bool {
	if c.rest != nil {
		return true
	}
	f, err := os.CreateTemp(c.dir, "sbom-*")
	if err == nil {
		c.rest, err = f, os.Remove(f.Name())
	}
	c.err = err
	return err == nil
}

// ReadAt implements [io.ReaderAt].
func (c *contents) ReadAt(b []byte, at int64) (n int, err error) {
	if at < 0 {
		return 0, errors.New("a negative offset")
	}
	if at < int64(len(c.head)) {
		n = copy(b, c.head[at:])
	}
	for n < len(b) && at+int64(n) < c.size && c.rest != nil {
		part := b[n:min(int64(len(b)), c.size-at)]
		k, err := c.rest.ReadAt(part, at+int64(n)-inMemory)
		if n += k; err != nil && k == 0 {
			return n, err
		}
	}
	if n < len(b) {
		err = io.EOF
	}
	return n, err
}

// bytes returns the contents, which the next file overwrites.
func (c *contents) bytes() ([]byte, error) {
	if c.size <= int64(len(c.head)) {
		return c.head, nil
	}
	b := make([]byte, c.size)
	_, err := io.ReadFull(io.NewSectionReader(c, 0, c.size), b)
	return b, err
}
