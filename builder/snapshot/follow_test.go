package snapshot

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

// TestGrowingBlob checks that the follower of a large blob reads all of it, or the error
// of an early end.
func TestGrowingBlob(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	content := make([]byte, 3*followSize)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		bytes   int
		end     error
		follows bool
	}{
		"small":  {followSize - 1, nil, false},
		"large":  {len(content), nil, true},
		"broken": {2 * followSize, broken, true},
	} {
		t.Run(name, func(t *testing.T) {
			blob, err := s.NewBlob()
			if err != nil {
				t.Fatal(err)
			}
			defer blob.Close()
			type end struct {
				read []byte
				err  error
			}
			var ends []chan end
			g := &growingBlob{blob: blob, follow: func(r io.ReadCloser) {
				e := make(chan end, 1)
				ends = append(ends, e)
				go func() {
					defer r.Close()
					b, err := io.ReadAll(r)
					e <- end{b, err}
				}()
			}}
			for rest := content[:test.bytes]; len(rest) > 0; {
				n, err := g.Write(rest[:min(len(rest), 100_000)])
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			g.end(test.end)
			g.end(errors.New("too late"))
			if test.end == nil {
				if err := blob.Commit(layer.FromBytes(content[:test.bytes])); err != nil {
					t.Fatal(err)
				}
			}
			if (len(ends) == 1) != test.follows || len(ends) > 1 {
				t.Fatalf("%d followers", len(ends))
			}
			for _, e := range ends {
				got := <-e
				if got.err != test.end || test.end == nil && !bytes.Equal(got.read, content) {
					t.Errorf("%d bytes, %v", len(got.read), got.err)
				}
			}
		})
	}
}
