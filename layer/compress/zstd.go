package compress

import (
	"math/bits"

	"github.com/klauspost/compress/zstd"
)

// zstdBlock is the size of the input of one frame. A layer is a sequence of
// independent frames, as the format allows. Frames of this size cost 3 % over a
// single one, and half the memory of larger ones.
const zstdBlock = 2 << 20

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

func (e *zstdEncoder) encode(dst, _, p []byte, _, small bool) ([]byte, error) {
	if e.w == nil {
		level, window := e.level, zstdBlock
		if small {
			window = max(zstd.MinWindowSize, 1<<bits.Len(uint(len(p))))
		}
		if small && len(p) <= tinyLayer {
			level = 1 // its tables are the smallest
		}
		w, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
			zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true),
			zstd.WithWindowSize(min(window, zstdBlock)),
			zstd.WithZeroFrames(true),
		)
		if err != nil {
			return nil, err
		}
		e.w = w
	}
	return e.w.EncodeAll(p, dst), nil
}
