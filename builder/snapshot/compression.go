package snapshot

import (
	"context"
	"fmt"
	"io"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
)

// Compression is how the layers of an image are compressed.
type Compression struct {
	compress.Options
	Force bool // recompresses layers of base images that are in another format
}

// scratch is the compression of layers that are in no image.
var scratch = compress.Options{Format: compress.Zstd, Level: 1}

// Variant returns the layer's blob in a compression, and makes it if the store has none.
// A layer that was built gets the exact format and level, so that an image does not
// depend on earlier builds. A layer of a base image stays as it is, unless c has Force
// and its format differs.
func (l *Layer) Variant(ctx context.Context, c Compression) (layer.Descriptor, error) {
	b, err := l.Blob(ctx)
	if err != nil || c.matches(b) {
		return b, err
	}
	if l.isImage && (!c.Force || len(b.URLs) > 0 || layer.SameFormat(b.MediaType, c.mediaType())) {
		return b, nil
	}
	key := fmt.Sprintf("%s %s %d", b.DiffID, c.mediaType(), c.Level)
	return l.m.variants.Do(ctx, key, func() (layer.Descriptor, error) {
		for _, known := range l.m.Store.Layers(b.DiffID) {
			if _, ok := l.m.Store.TouchBlob(known.Digest); ok && c.matches(known) {
				return known, nil
			}
		}
		return l.recompress(ctx, c.Options)
	})
}

// OpenVariant opens a blob that Variant returned. One that the store does not have is
// the layer's own.
func (l *Layer) OpenVariant(ctx context.Context, b layer.Descriptor) (io.ReadCloser, error) {
	if f, err := l.m.Store.OpenVerified(b.Digest); err == nil {
		return f, nil
	}
	return l.Open(ctx)
}

// recompress makes another blob of the layer.
func (l *Layer) recompress(ctx context.Context, how compress.Options) (layer.Descriptor, error) {
	raw, err := l.Open(ctx)
	if err != nil {
		return layer.Descriptor{}, err
	}
	defer raw.Close()
	tar, err := compress.NewReader(raw)
	if err != nil {
		return layer.Descriptor{}, err
	}
	defer tar.Close()
	return l.m.writeBlob(how, nil, func(out io.Writer) error {
		_, err := io.Copy(out, tar)
		return err
	})
}

// matches reports whether a blob has the format and level.
func (c Compression) matches(b layer.Descriptor) bool {
	return b.MediaType == c.mediaType() && b.Level == c.Level
}

func (c Compression) mediaType() string {
	switch c.Format {
	case compress.Zstd:
		return layer.MediaTypeZstd
	case compress.Uncompressed:
		return layer.MediaTypeTar
	}
	return layer.MediaTypeGzip
}
