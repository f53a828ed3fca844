package compress

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/klauspost/compress/flate"
)

const (
	// gzipBlock is small because touching memory for the first time is the main cost
	// of a short build. Thanks to the dictionary the output is as small as with
	// larger blocks.
	gzipBlock = 256 << 10
	gzipDict  = 32 << 10 // deflate's window
	// tinyLayer is the size up to which a layer is compressed without the tables of
	// the levels, because allocating them would take longer than the compression.
	tinyLayer = 32 << 10

	// defaultGzip is the fastest level with an output of at most 1.03 times the size
	// of BuildKit's, for /usr and for Go's own tree; see BenchmarkLevels.
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

// header has no name, time or operating system, so that it is always the same.
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
	if cap(dst) < len(p) { // incompressible input grows a little
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
