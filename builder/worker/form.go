package worker

import (
	"context"
	"fmt"
	"io"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
)

// Form is how the layers of an image are compressed.
type Form struct {
	compress.Options
	Force bool // those of base images too, where they are in another format
}

// Shipped gives a layer's blob in the form that images are given out in.
func (w *Worker) Shipped(ctx context.Context, l *Layer) (layer.Blob, error) {
	return w.ShippedAs(ctx, l, w.Compression)
}

// ShippedAs gives a layer's blob in a form. One that was kept otherwise, because no
// image held it in this form, is compressed now. A layer that was built is as the
// form says to the level, so that nobody can tell whether it was kept before; one of
// another image stays as it is, or with Force has the format at least.
func (w *Worker) ShippedAs(ctx context.Context, l *Layer, f Form) (layer.Blob, error) {
	b, err := l.Blob(ctx)
	if err != nil || f.made(b) {
		return b, err
	}
	if l.image != nil && (!f.Force || len(b.URLs) > 0 || layer.SameFormat(b.MediaType, f.mediaType())) {
		return b, nil
	}
	key := fmt.Sprintf("%s %s %d", b.DiffID, f.mediaType(), f.Level)
	return w.shipping.do(key, func() (layer.Blob, error) {
		for _, known := range w.Store.Layers(b.DiffID) {
			if _, ok := w.Store.BlobSize(known.Digest); ok && f.made(known) {
				return known, nil
			}
		}
		return w.recompress(ctx, l, f.Options)
	})
}

// recompress makes another blob of a layer.
func (w *Worker) recompress(ctx context.Context, l *Layer, how compress.Options) (layer.Blob, error) {
	raw, err := l.Open(ctx)
	if err != nil {
		return layer.Blob{}, err
	}
	defer raw.Close()
	tar, err := compress.NewReader(raw)
	if err != nil {
		return layer.Blob{}, err
	}
	defer tar.Close()
	return w.compress(how, nil, func(out io.Writer) error {
		_, err := io.Copy(out, tar)
		return err
	})
}

// made tells whether a blob that was made here has the form.
func (f Form) made(b layer.Blob) bool { return b.MediaType == f.mediaType() && b.Level == f.Level }

func (f Form) mediaType() string {
	switch f.Format {
	case compress.Zstd:
		return layer.MediaTypeZstd
	case compress.Uncompressed:
		return layer.MediaTypeTar
	}
	return layer.MediaTypeGzip
}
