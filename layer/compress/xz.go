package compress

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// An xzReader reads the .xz container and leaves LZMA2 to the library. The library's
// reader of the container would allocate any dictionary that a header asks for, up
// to 4 GiB.
type xzReader struct {
	src   *bufio.Reader
	used  int64 // bytes read from src
	flags [2]byte
	block io.Reader // the block being read; nil between blocks
	start int64     // offset of the block's data
	check hash.Hash // of the block's data; nil when the stream has none
	err   error
}

func newXZ(src *bufio.Reader) (io.ReadCloser, error) {
	x := &xzReader{src: src}
	if err := x.streamHeader(); err != nil {
		return nil, xzError(err)
	}
	return io.NopCloser(x), nil
}

func xzError(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("xz: %w", err)
}

func (x *xzReader) Read(p []byte) (int, error) {
	for x.err == nil {
		if x.block == nil {
			x.err = x.next()
			continue
		}
		n, err := x.block.Read(p)
		if x.check != nil {
			x.check.Write(p[:n])
		}
		if err == io.EOF {
			err = x.endBlock()
		}
		if err != nil {
			x.err = xzError(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, x.err
}

// next starts the next block; io.EOF means that there is none.
func (x *xzReader) next() error {
	size, err := x.src.ReadByte()
	if err != nil {
		return xzError(err)
	}
	x.used++
	if size != 0 {
		if err := x.blockHeader(size); err != nil {
			return xzError(err)
		}
		return nil
	}
	if err := x.endStream(); err != nil {
		return xzError(err)
	}
	return x.nextStream()
}

func (x *xzReader) take(n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(x.src, b)
	x.used += int64(got)
	return b, err
}

func (x *xzReader) streamHeader() error {
	b, err := x.take(12)
	if err != nil {
		return err
	}
	if !bytes.Equal(b[:6], xzMagic) || crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return errors.New("damaged stream header")
	}
	x.flags = [2]byte(b[6:8])
	if x.flags[0] != 0 {
		return errors.New("unknown stream flags")
	}
	switch x.flags[1] {
	case 0:
		x.check = nil
	case 1:
		x.check = crc32.NewIEEE()
	case 4:
		x.check = crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		x.check = sha256.New()
	default:
		return fmt.Errorf("unknown check %d", x.flags[1])
	}
	return nil
}

// blockHeader reads the rest of a header that begins with size and starts its block.
func (x *xzReader) blockHeader(size byte) error {
	rest, err := x.take((int(size)+1)*4 - 1)
	if err != nil {
		return err
	}
	header := append([]byte{size}, rest...)
	body := header[:len(header)-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(header[len(body):]) {
		return errors.New("damaged block header")
	}
	dictionary, err := parseBlockHeader(body[1:])
	if err != nil {
		return err
	}
	if dictionary > maxWindow {
		return fmt.Errorf("dictionary of %d bytes, at most %d are taken", dictionary, maxWindow)
	}
	x.start = x.used
	if x.check != nil {
		x.check.Reset()
	}
	config := lzma.Reader2Config{DictCap: int(max(dictionary, lzma.MinDictCap))}
	x.block, err = config.NewReader2(&usedReader{x})
	return err
}

// parseBlockHeader returns the size of the dictionary. It skips the sizes in the
// header, since the data marks its own end.
func parseBlockHeader(b []byte) (int64, error) {
	const (
		lzma2            = 0x21
		hasCompressed    = 0x40
		hasUncompressed  = 0x80
		filtersAndUnused = 0x3f
	)
	if len(b) == 0 || b[0]&filtersAndUnused != 0 {
		return 0, errors.New("filters other than LZMA2 are not supported")
	}
	flags, b := b[0], b[1:]
	for _, bit := range []byte{hasCompressed, hasUncompressed} {
		if flags&bit == 0 {
			continue
		}
		_, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, errors.New("damaged block header")
		}
		b = b[n:]
	}
	if len(b) < 3 || b[0] != lzma2 || b[1] != 1 {
		return 0, errors.New("filters other than LZMA2 are not supported")
	}
	return lzma.DecodeDictCap(b[2])
}

// endBlock reads the padding and the check after a block's data.
func (x *xzReader) endBlock() error {
	x.block = nil
	if err := x.padding(x.used - x.start); err != nil {
		return err
	}
	sizes := [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}
	stored, err := x.take(sizes[x.flags[1]])
	if err != nil || x.check == nil {
		return err
	}
	sum := x.check.Sum(nil)
	if x.flags[1] != 10 { // CRCs are stored little-endian
		for i, j := 0, len(sum)-1; i < j; i, j = i+1, j-1 {
			sum[i], sum[j] = sum[j], sum[i]
		}
	}
	if !bytes.Equal(sum, stored) {
		return errors.New("checksum differs, the data is damaged")
	}
	return nil
}

func (x *xzReader) padding(size int64) error {
	pad, err := x.take(int(-size & 3))
	if err != nil {
		return err
	}
	if len(bytes.Trim(pad, "\x00")) > 0 {
		return errors.New("padding is not zero")
	}
	return nil
}

// endStream reads the footer and the index, except for its first byte, which has
// been read.
func (x *xzReader) endStream() error {
	start := x.used - 1
	sum := crc32.NewIEEE()
	sum.Write([]byte{0})
	index := &summedReader{x: x, sum: sum}
	records, err := binary.ReadUvarint(index)
	for range 2 * records {
		if err != nil {
			break
		}
		_, err = binary.ReadUvarint(index)
	}
	for err == nil && (x.used-start)%4 != 0 {
		_, err = index.ReadByte()
	}
	if err != nil {
		return err
	}
	tail, err := x.take(4 + 12)
	if err != nil {
		return err
	}
	footer := tail[4:]
	if binary.LittleEndian.Uint32(tail) != sum.Sum32() {
		return errors.New("damaged index")
	}
	if crc32.ChecksumIEEE(footer[4:10]) != binary.LittleEndian.Uint32(footer) || string(footer[10:]) != "YZ" ||
		!bytes.Equal(footer[8:10], x.flags[:]) {
		return errors.New("damaged stream footer")
	}
	return nil
}

// nextStream skips the padding between streams; io.EOF means the end of the file.
func (x *xzReader) nextStream() error {
	for {
		b, err := x.src.Peek(4)
		if len(b) == 0 && err == io.EOF {
			return io.EOF
		}
		if err != nil {
			return xzError(err)
		}
		if string(b) != "\x00\x00\x00\x00" {
			break
		}
		if _, err := x.take(4); err != nil {
			return xzError(err)
		}
	}
	if err := x.streamHeader(); err != nil {
		return xzError(err)
	}
	return nil
}

// A usedReader counts the bytes that a block takes.
type usedReader struct{ x *xzReader }

func (u *usedReader) Read(p []byte) (int, error) {
	n, err := u.x.src.Read(p)
	u.x.used += int64(n)
	return n, err
}

func (u *usedReader) ReadByte() (byte, error) {
	c, err := u.x.src.ReadByte()
	if err == nil {
		u.x.used++
	}
	return c, err
}

// A summedReader counts bytes and computes their checksum.
type summedReader struct {
	x   *xzReader
	sum hash.Hash32
}

func (s *summedReader) ReadByte() (byte, error) {
	c, err := (&usedReader{s.x}).ReadByte()
	if err == nil {
		s.sum.Write([]byte{c})
	}
	return c, err
}
