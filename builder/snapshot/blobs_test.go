package snapshot

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
	"github.com/cairn-build/cairn/registry"
)

// blobs is a registry, or a remote cache, in memory.
type blobs struct {
	mu      sync.Mutex
	content map[layer.Digest][]byte
	opened  map[layer.Digest]int
	err     error // of the next OpenBlob
}

func (r *blobs) OpenBlob(_ context.Context, _ string, b layer.Descriptor) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened[b.Digest]++
	if err := r.err; err != nil {
		r.err = nil
		return nil, err
	}
	content, ok := r.content[b.Digest]
	if !ok {
		return nil, registry.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}

func (r *blobs) Open(ctx context.Context, b layer.Descriptor) (io.ReadCloser, error) {
	return r.OpenBlob(ctx, "", b)
}

func (r *blobs) String() string { return "in memory" }

// pack adds a layer and returns its descriptor.
func (r *blobs) pack(t testing.TB, changes ...tarball.Change) layer.Descriptor {
	t.Helper()
	var buf bytes.Buffer
	w, err := compress.NewWriter(&buf, compress.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tarball.Write(w, DiffChanges(changes).All()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := w.Blob()
	r.content[b.Digest] = buf.Bytes()
	return b
}

// count returns how often a blob was opened.
func (r *blobs) count(b layer.Descriptor) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opened[b.Digest]
}

func newBlobs() *blobs {
	return &blobs{content: map[layer.Digest][]byte{}, opened: map[layer.Digest]int{}}
}

func newManager(t *testing.T, r *blobs, s *store.Store) *Manager {
	t.Helper()
	return New(t.Context(), Options{Store: s, Registry: r, Isolation: sandbox.Isolation{SingleID: true}})
}

func openStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func file(path, text string) tarball.Change {
	return tarball.Change{
		Entry: listing.Entry{Path: path, Type: listing.TypeFile, Mode: 0o644, Size: int64(len(text))},
		Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
	}
}

func dir(path string) tarball.Change {
	return tarball.Change{Entry: listing.Entry{Path: path, Type: listing.TypeDir, Mode: 0o755}}
}

func paths(t *testing.T, v *listing.View) string {
	t.Helper()
	var all []string
	_ = v.Walk(".", func(n listing.Node) error {
		all = append(all, n.Path)
		return nil
	})
	return strings.Join(all, " ")
}
