package layer

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
)

// Verify returns a reader of r's bytes that ends with an error unless they have the
// given digest and size. Closing it closes r.
func Verify(r io.ReadCloser, d Digest, size int64) io.ReadCloser {
	return &verified{r, d, size, sha256.New()}
}

type verified struct {
	r    io.ReadCloser
	d    Digest
	left int64
	hash hash.Hash
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	v.left -= int64(n)
	switch {
	case v.left < 0:
		return 0, fmt.Errorf("blob %s: longer than its size", v.d)
	case err == io.EOF && v.left > 0:
		return n, fmt.Errorf("blob %s: %w: %d bytes are missing", v.d, io.ErrUnexpectedEOF, v.left)
	case err == io.EOF:
		if have := FromHash(v.hash); have != v.d {
			return n, fmt.Errorf("blob %s: its bytes have digest %s", v.d, have)
		}
	}
	return n, err
}

func (v *verified) Close() error { return v.r.Close() }
