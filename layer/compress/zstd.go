package compress

import (
	"github.com/klauspost/compress/zstd"
)

// zstdBlock is the input of one frame. A layer is several frames, one after
// the other, as the format allows: each is compressed by itself.
const zstdBlock = 4 << 20

const defaultZstd = 3

type zstdCodec struct{ level int }

func newZstd(level int) *zstdCodec {
	if level == 0 {
		level = defaultZstd
	}
	return &zstdCodec{level}
}

func (z *zstdCodec) blockSize() int  { return zstdBlock }
func (z *zstdCodec) dictSize() int   { return 0 }
func (z *zstdCodec) header() []byte  { return nil }
func (z *zstdCodec) trailer() []byte { return nil }
func (z *zstdCodec) sum([]byte)      {}

func (z *zstdCodec) encoder() encoder { return &zstdEncoder{level: z.level} }

type zstdEncoder struct {
	level int
	w     *zstd.Encoder
}

func (e *zstdEncoder) encode(dst, _, p []byte, _, _ bool) ([]byte, error) {
	if e.w == nil {
		w, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(e.level)),
			zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(zstdBlock),
			zstd.WithZeroFrames(true),
		)
		if err != nil {
			return nil, err
		}
		e.w = w
	}
	return e.w.EncodeAll(p, dst), nil
}
