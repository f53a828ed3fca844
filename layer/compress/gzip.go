package compress

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/klauspost/compress/flate"
)

const (
	// gzipBlock is small: what a short build pays for most is memory that it
	// touches for the first time, and with a dictionary the size stays the same.
	gzipBlock = 256 << 10
	gzipDict  = 32 << 10 // deflate's window
	// tinyLayer is the size up to which a layer is compressed without the
	// tables of the levels, whose allocation would cost more than the work.
	tinyLayer = 32 << 10

	// defaultGzip is the fastest level whose output stays within 1.03 of the
	// size that BuildKit pushes, on /usr and on Go's own tree; see
	// BenchmarkLevels.
	defaultGzip = 6
)

type gzipCodec struct {
	level int
	crc   uint32
	size  uint32
}

func newGzip(level int) *gzipCodec {
	if level == 0 {
		level = defaultGzip
	}
	return &gzipCodec{level: level}
}

func (g *gzipCodec) blockSize() int { return gzipBlock }
func (g *gzipCodec) dictSize() int  { return gzipDict }

// header has no name, no time and no system: nothing that could differ.
func (g *gzipCodec) header() []byte {
	return []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}
}

func (g *gzipCodec) trailer() []byte {
	b := binary.LittleEndian.AppendUint32(nil, g.crc)
	return binary.LittleEndian.AppendUint32(b, g.size)
}

func (g *gzipCodec) sum(p []byte) {
	g.crc = crc32.Update(g.crc, crc32.IEEETable, p)
	g.size += uint32(len(p))
}

func (g *gzipCodec) encoder() encoder { return &gzipEncoder{level: g.level} }

type gzipEncoder struct {
	level int
	w     *flate.Writer
}

func (e *gzipEncoder) encode(dst, dict, p []byte, last, small bool) ([]byte, error) {
	if cap(dst) < len(p) { // what can't be compressed grows a little
		dst = append(make([]byte, 0, len(dst)+len(p)+len(p)/64+64), dst...)
	}
	buf := bytes.NewBuffer(dst)
	if small && len(p) <= tinyLayer {
		err := flate.StatelessDeflate(buf, p, true, nil)
		return buf.Bytes(), err
	}
	if e.w == nil {
		w, err := flate.NewWriter(buf, e.level)
		if err != nil {
			return nil, err
		}
		e.w = w
	}
	e.w.ResetDict(buf, dict)
	if _, err := e.w.Write(p); err != nil {
		return nil, err
	}
	finish := e.w.Flush
	if last {
		finish = e.w.Close
	}
	err := finish()
	return buf.Bytes(), err
}
