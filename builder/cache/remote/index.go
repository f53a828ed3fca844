package remote

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
)

const (
	maxPacked = 64 << 20  // bytes of an index's layer
	maxIndex  = 256 << 20 // of the index
)

// unpackIndex fetches a layer that holds an index.
func (c *Cache) unpackIndex(ctx context.Context, b layer.Blob) ([]byte, error) {
	if b.Size > maxPacked {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", b.Size, maxPacked)
	}
	body, err := c.place.open(ctx, b)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	plain, err := compress.NewReader(body)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	h := sha256.New()
	in := io.TeeReader(io.LimitReader(plain, maxIndex+1<<20), h)
	t := tar.NewReader(in)
	head, err := t.Next()
	if err != nil {
		return nil, err
	}
	if head.Name != indexFile || head.Size > maxIndex {
		return nil, fmt.Errorf("it is %.100q of %d bytes, not an index", head.Name, head.Size)
	}
	raw, err := io.ReadAll(t)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // to its end: digests are verified there
		return nil, err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return nil, err
	}
	if got := layer.FromHash(h); got != b.DiffID {
		return nil, fmt.Errorf("it holds %s, not %s", got, b.DiffID)
	}
	return raw, nil
}
