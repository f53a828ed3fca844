package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
	"github.com/cairn-build/cairn/registry"
)

// TestImage checks that the layers of an image are fetched, listed and unpacked once,
// when they are needed, however many callers there are.
func TestImage(t *testing.T) {
	r, s := newBlobs(), openStore(t)
	below := r.pack(t, dir("etc"), file("etc/passwd", "root:x:0:0::/:/bin/sh"), file("old", "text"))
	top := r.pack(t, dir("a"), file("a/b", "new"), tarball.Change{Entry: listing.Entry{Path: "old", Type: listing.TypeWhiteout}})
	m := newManager(t, r, s)
	stack := m.Image([]layer.Descriptor{below, top}, "example/image", nil)
	if again := m.Image([]layer.Descriptor{below, top}, "example/image", nil); again != stack {
		t.Error("one image has two stacks")
	}
	for _, l := range stack.Layers() {
		if b, err := l.Blob(t.Context()); err != nil || r.count(b) != 0 || l.Ref() != "example/image" {
			t.Errorf("%v, %d fetches, from %q", err, r.count(b), l.Ref())
		}
	}
	if !stack.NeedsFetch() {
		t.Error("the store has the listings of layers that were not fetched")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if v, err := stack.FullView(t.Context()); err != nil || paths(t, v) != ". a a/b etc etc/passwd" {
				t.Errorf("%v, %v", v, err)
			}
		})
		wg.Go(func() {
			if dirs, err := stack.Trees(t.Context()); err != nil || len(dirs) != 2 {
				t.Errorf("%q, %v", dirs, err)
			} else if text, err := os.ReadFile(filepath.Join(dirs[0], "a/b")); err != nil || string(text) != "new" {
				t.Errorf("a/b: %q, %v", text, err)
			}
		})
		wg.Go(func() {
			if b, err := stack.Top().Variant(t.Context(), Compression{}); err != nil || b.Digest != top.Digest {
				t.Errorf("variant %v, %v", b, err)
			}
		})
	}
	wg.Wait()
	if err := m.Wait(); err != nil {
		t.Error(err)
	}
	later := newManager(t, r, s).Image([]layer.Descriptor{below, top}, "example/image", nil)
	if _, err := later.Trees(t.Context()); err != nil || later.NeedsFetch() {
		t.Errorf("later: %v, needs a fetch: %v", err, later.NeedsFetch())
	}
	if r.count(below) != 1 || r.count(top) != 1 {
		t.Errorf("fetched %d and %d times", r.count(below), r.count(top))
	}
}

// TestFetchErrors checks that a failed or damaged fetch leaves nothing in the store, and
// that the next caller tries again.
func TestFetchErrors(t *testing.T) {
	refused := errors.New("refused")
	for name, test := range map[string]struct {
		spoil  func(r *blobs, b *layer.Descriptor)
		repair func(r *blobs, b layer.Descriptor)
		want   string
	}{
		"registry": {func(r *blobs, b *layer.Descriptor) { r.err = refused }, nil, "refused"},
		"cut off": {
			func(r *blobs, b *layer.Descriptor) { r.content[b.Digest] = r.content[b.Digest][:20] },
			func(r *blobs, b layer.Descriptor) { r.content[b.Digest] = r.content["whole"] }, "unexpected EOF"},
		"other content": {func(r *blobs, b *layer.Descriptor) { b.DiffID = layer.FromBytes(nil) }, nil, "its image's config says"},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newBlobs(), openStore(t)
			b := r.pack(t, file("a", "text"))
			r.content["whole"] = r.content[b.Digest]
			test.spoil(r, &b)
			m := newManager(t, r, s)
			stack := m.Image([]layer.Descriptor{b}, "example/image", nil)
			_, err := stack.FullView(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v, want %s", err, test.want)
			}
			if _, ok := s.TouchBlob(b.Digest); ok {
				t.Error("the store has the blob")
			}
			if test.repair != nil {
				test.repair(r, b)
			}
			if _, err := stack.FullView(t.Context()); (err != nil) != (name == "other content") {
				t.Errorf("the second time: %v", err)
			}
		})
	}
}

// TestDamagedBlob checks that a blob that changed on disk is reported and dropped.
func TestDamagedBlob(t *testing.T) {
	r, s := newBlobs(), openStore(t)
	b := r.pack(t, file("a", strings.Repeat("text", 1000)))
	m := newManager(t, r, s)
	if err := s.PutBlob(b.Digest, b.Size, bytes.NewReader(r.content[b.Digest])); err != nil {
		t.Fatal(err)
	}
	f, err := s.OpenBlob(b.Digest)
	if err != nil {
		t.Fatal(err)
	}
	name := f.Name()
	f.Close()
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	spoiled := bytes.Clone(r.content[b.Digest])
	spoiled[len(spoiled)/2] ^= 0xff
	if err := os.WriteFile(name, spoiled, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = m.Empty().With(m.Stored(b, time.Time{})).FullView(t.Context())
	var damaged *store.DamagedError
	if !errors.As(err, &damaged) || damaged.Digest != b.Digest {
		t.Fatalf("%v", err)
	}
	if _, ok := s.TouchBlob(b.Digest); ok {
		t.Error("the store still has the blob")
	}
}

// TestCached checks layers of remote caches.
func TestCached(t *testing.T) {
	s, cache := openStore(t), newBlobs()
	b := cache.pack(t, file("a", "text"))
	m := newManager(t, newBlobs(), s)
	fetched := 0
	l := m.Cached(b, time.Unix(5, 0), cache, "", func() {
		fetched++
		if _, ok := s.TouchBlob(b.Digest); !ok {
			t.Error("the store does not have the blob yet")
		}
	})
	if !l.Created().Equal(time.Unix(5, 0)) || l.Ref() != "" {
		t.Errorf("created %v, ref %q", l.Created(), l.Ref())
	}
	body, err := l.Open(t.Context()) // reads the blob without keeping it
	if err != nil {
		t.Fatal(err)
	}
	if content, err := io.ReadAll(body); err != nil || layer.FromBytes(content) != b.Digest || fetched != 0 {
		t.Errorf("%v, stored %d times", err, fetched)
	}
	stack := m.Empty().With(l)
	for range 2 {
		if v, err := stack.FullView(t.Context()); err != nil || paths(t, v) != ". a" {
			t.Errorf("%v", err)
		}
		if err := stack.SaveOrigins(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if fetched != 1 || cache.count(b) != 2 {
		t.Errorf("fetched %d, opened %d times", fetched, cache.count(b))
	}
	gone := layer.Descriptor{Digest: layer.FromBytes([]byte("x")), DiffID: layer.FromBytes([]byte("y")), Size: 5}
	for ref, err := range map[string]error{"": errors.New("cannot read"), "example/cache": registry.ErrNotFound} {
		cache.err = err
		_, got := m.Empty().With(m.Cached(gone, time.Time{}, cache, ref, nil)).FullView(t.Context())
		var g *GoneError
		if !errors.As(got, &g) || !errors.Is(got, err) || g.Cache != "in memory" {
			t.Errorf("ref %q: %v", ref, got)
		}
	}
	cache.err = errors.New("cannot connect")
	_, got := m.Empty().With(m.Cached(gone, time.Time{}, cache, "example/cache", nil)).FullView(t.Context())
	if g := new(GoneError); errors.As(got, &g) || got == nil {
		t.Errorf("an unreachable registry: %v", got)
	}
	if err := m.Wait(); err != nil {
		t.Error(err)
	}
}

// TestListings checks that the listing of a remote cache replaces a fetch, and is not
// stored.
func TestListings(t *testing.T) {
	r, s := newBlobs(), openStore(t)
	b := r.pack(t, file("a", "text"))
	m := newManager(t, r, s)
	m.Listings = func(_ context.Context, d layer.Digest) *listing.Listing {
		if d != b.DiffID {
			t.Errorf("asked for %s", d)
		}
		return &listing.Listing{Entries: []listing.Entry{{Path: "from-cache", Type: listing.TypeFile}}}
	}
	v, err := m.Image([]layer.Descriptor{b}, "example/image", nil).FullView(t.Context())
	if err != nil || paths(t, v) != ". from-cache" || r.count(b) != 0 {
		t.Errorf("%v, %d fetches", err, r.count(b))
	}
	if _, err := s.Listing(b.DiffID); err == nil {
		t.Error("the listing was stored")
	}
}

// TestAdd checks the pipeline of a step's layer.
func TestAdd(t *testing.T) {
	s := openStore(t)
	m := newManager(t, newBlobs(), s)
	m.Compression.Options = compress.Options{Format: compress.Gzip, Level: 1}
	for range cap(m.compressors) { // the pipeline waits
		m.compressors <- struct{}{}
	}
	closed, done := &closer{DiffChanges: DiffChanges{dir("etc"), file("etc/group", "wheel:x:1:")}}, make(chan struct{})
	var written layer.Descriptor
	stack := m.Empty().Add(NewLayer{
		Changes: closed, Written: func(_ *Layer, b layer.Descriptor) { written = b }, Done: func() { close(done) },
	})
	early, err := stack.View(t.Context())
	if err != nil || paths(t, early) != ". etc etc/group" {
		t.Fatalf("%v", err)
	}
	if content, ok := early.ReadFile("etc/group"); !ok || string(content) != "wheel:x:1:" {
		t.Errorf("etc/group is %q", content)
	}
	if n, _ := early.Lookup("etc/group"); n.Digest != "" {
		t.Errorf("the early listing has digest %s", n.Digest)
	}
	short, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("too long"))
	if _, err := stack.Top().Blob(short); err == nil || err.Error() != "too long" {
		t.Errorf("a blob that is not written: %v", err)
	}
	<-m.compressors
	<-done
	if n, err := stack.FullView(t.Context()); err != nil {
		t.Error(err)
	} else if e, _ := n.Lookup("etc/group"); e.Digest != layer.FromBytes([]byte("wheel:x:1:")) {
		t.Errorf("digest %s", e.Digest)
	}
	if b, err := stack.Top().Blob(t.Context()); err != nil || b.Digest != written.Digest || b.MediaType != layer.MediaTypeZstd || !closed.closed.Load() {
		t.Errorf("%+v, %v, closed: %v", b, err, closed.closed.Load())
	}
	variant, err := stack.Top().Variant(t.Context(), m.Compression)
	if err != nil || variant.MediaType != layer.MediaTypeGzip || variant.DiffID != written.DiffID {
		t.Errorf("variant %+v, %v", variant, err)
	}
	if again, err := stack.Top().Variant(t.Context(), m.Compression); err != nil || again.Digest != variant.Digest {
		t.Errorf("variant %+v, %v", again, err)
	}
	if r, err := stack.Top().OpenVariant(t.Context(), variant); err != nil {
		t.Error(err)
	} else {
		content, err := io.ReadAll(r)
		if err != nil || layer.FromBytes(content) != variant.Digest {
			t.Errorf("%v", err)
		}
		r.Close()
	}
	if err := m.Wait(); err != nil {
		t.Error(err)
	}
}

// closer records that the changes were closed.
type closer struct {
	DiffChanges
	closed atomic.Bool
}

func (c *closer) Close() { c.closed.Store(true) }

// TestAddTree checks that a layer has a tree before it has a blob, and that the store
// has it afterwards.
func TestAddTree(t *testing.T) {
	s := openStore(t)
	m := newManager(t, newBlobs(), s)
	below := m.Empty().Add(NewLayer{Changes: DiffChanges{dir("d"), file("d/a", "text")}})
	stack := below.Add(NewLayer{Changes: DiffChanges{dir("d"), file("d/b", "more")}, Exported: true})
	dirs, err := stack.Trees(t.Context())
	if err != nil || len(dirs) != 2 {
		t.Fatalf("%q, %v", dirs, err)
	}
	if text, err := os.ReadFile(filepath.Join(dirs[0], "d/b")); err != nil || string(text) != "more" {
		t.Errorf("%q, %v", text, err)
	}
	if err := m.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, l := range stack.Layers() {
		if _, ok := s.Tree(l.exactKey(TreeKey(l.blob.DiffID))); !ok {
			t.Errorf("the store has no tree of %s", l.blob.DiffID)
		}
	}
}

// TestAddError checks that the error of a pipeline reaches all callers that need the layer.
func TestAddError(t *testing.T) {
	m := newManager(t, newBlobs(), openStore(t))
	broken := file("a", "text")
	broken.Open = func() (io.ReadCloser, error) { return nil, fs.ErrPermission }
	done := make(chan struct{})
	stack := m.Empty().Add(NewLayer{
		Changes:   DiffChanges{broken},
		Written:   func(*Layer, layer.Descriptor) { t.Error("it was written") },
		WrapError: func(err error) error { return fmt.Errorf("step 1: %w", err) },
		Done:      func() { close(done) },
	})
	<-done
	for name, f := range map[string]func() error{
		"Blob":     func() error { _, err := stack.Top().Blob(t.Context()); return err },
		"Tree":     func() error { _, err := stack.Trees(t.Context()); return err },
		"FullView": func() error { _, err := stack.FullView(t.Context()); return err },
		"Variant":  func() error { _, err := stack.Top().Variant(t.Context(), Compression{}); return err },
		"Wait":     m.Wait,
	} {
		if err := f(); !errors.Is(err, fs.ErrPermission) || !strings.HasPrefix(err.Error(), "step 1: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFollow checks that the reader of a large blob sees all of it.
func TestFollow(t *testing.T) {
	m := newManager(t, newBlobs(), openStore(t))
	text := make([]byte, 2<<20)
	for i := range text {
		text[i] = byte(i * i >> 7) // does not compress to less than followSize
	}
	m.Compression.Format = compress.Uncompressed
	read := make(chan layer.Digest, 1)
	stack := m.Empty().Add(NewLayer{
		Changes: DiffChanges{file("a", string(text))}, Exported: true,
		Follow: func(_ *Layer, r io.ReadCloser) {
			go func() {
				defer r.Close()
				content, _ := io.ReadAll(r)
				read <- layer.FromBytes(content)
			}()
		},
	})
	if b, err := stack.Top().Blob(t.Context()); err != nil || <-read != b.Digest {
		t.Errorf("%v", err)
	}
	if err := m.Wait(); err != nil {
		t.Error(err)
	}
}
