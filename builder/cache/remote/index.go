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
	maxPacked = 64 << 20  // bytes of the layer with an index
	maxIndex  = 256 << 20 // bytes of an index
)

// unpackIndex fetches the layer that holds an index, and returns the index.
func (c *Cache) unpackIndex(ctx context.Context, b layer.Descriptor) ([]byte, error) {
	if b.Size > maxPacked {
		return nil, fmt.Errorf("too large: %d bytes, at most %d are allowed", b.Size, maxPacked)
	}
	body, err := c.backend.open(ctx, b)
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
		return nil, fmt.Errorf("not a listing: %.100q of %d bytes", head.Name, head.Size)
	}
	raw, err := io.ReadAll(t)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // the digest is verified at the end
		return nil, err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return nil, err
	}
	if got := layer.FromHash(h); got != b.DiffID {
		return nil, fmt.Errorf("its diff ID is %s, want %s", got, b.DiffID)
	}
	return raw, nil
}
