package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compressed returns a text in a compression.
func compressed(t *testing.T, text string, o compress.Options) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := compress.NewWriter(&buf, o)
	must(t, err)
	_, err = io.WriteString(w, text)
	must(t, err)
	must(t, w.Close())
	return buf.Bytes()
}

// TestUncompress checks that a layer is read to its end and verified.
func TestUncompress(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("some text ", 1000)
	raw := compressed(t, text, compress.Options{Format: compress.Gzip, Level: 1})
	right := layer.Descriptor{Digest: layer.FromBytes(raw), DiffID: layer.FromBytes([]byte(text))}
	failed := errors.New("failed")
	for name, test := range map[string]struct {
		b    layer.Descriptor
		raw  []byte
		f    func(io.Reader) error
		want string
	}{
		"right":          {b: right, raw: raw},
		"no diff ID":     {b: layer.Descriptor{Digest: right.Digest}, raw: raw},
		"zstd":           {b: right, raw: compressed(t, text, compress.Options{Format: compress.Zstd, Level: 1})},
		"not compressed": {b: right, raw: []byte(text)},
		"half read": {b: right, raw: raw, f: func(r io.Reader) error {
			_, err := io.ReadFull(r, make([]byte, 10))
			return err
		}},
		"other content": {
			b: layer.Descriptor{Digest: right.Digest, DiffID: layer.FromBytes(nil)}, raw: raw,
			want: "layer " + string(right.Digest) + " holds " + string(right.DiffID) + ", its image's config says " + string(layer.FromBytes(nil)),
		},
		"cut off":    {b: right, raw: raw[:len(raw)-10], want: "layer " + string(right.Digest) + ": unexpected EOF"},
		"no content": {b: right, want: "layer " + string(right.Digest) + " holds " + string(layer.FromBytes(nil))},
		"a reader that fails": {b: right, raw: raw, f: func(io.Reader) error { return failed },
			want: "layer " + string(right.Digest) + ": failed"},
	} {
		in := bytes.NewReader(test.raw)
		f := test.f
		if f == nil {
			f = func(r io.Reader) error {
				got, err := io.ReadAll(r)
				if err == nil && len(got) > 0 && string(got) != text {
					t.Errorf("%s: got %d bytes", name, len(got))
				}
				return err
			}
		}
		err := Uncompress(test.b, in, f)
		if got := errorText(err); got != test.want && !(test.want != "" && strings.HasPrefix(got, test.want)) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		if test.want == "" && in.Len() > 0 {
			t.Errorf("%s: %d bytes are left", name, in.Len())
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// put stores blobs of a registry, and returns the file of the last.
func put(t *testing.T, s *store.Store, r *blobs, list ...layer.Descriptor) (name string) {
	t.Helper()
	for _, b := range list {
		must(t, s.PutBlob(b.Digest, b.Size, bytes.NewReader(r.content[b.Digest])))
		f, err := s.OpenBlob(b.Digest)
		must(t, err)
		name = f.Name()
		must(t, f.Close())
	}
	return name
}

// TestDamage checks how blobs that changed on disk are found by each part of a layer that
// is made from them.
func TestDamage(t *testing.T) {
	t.Parallel()
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 0xff
		return b
	}
	for damage, spoil := range map[string]func([]byte) []byte{
		"flipped":  flip,
		"cut off":  func(b []byte) []byte { return b[:len(b)/2] },
		"emptied":  func([]byte) []byte { return nil },
		"replaced": func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) },
	} {
		for part, read := range map[string]func(*Stack) error{
			"View":     func(s *Stack) error { _, err := s.View(t.Context()); return err },
			"FullView": func(s *Stack) error { _, err := s.FullView(t.Context()); return err },
			"Trees":    func(s *Stack) error { _, err := s.Trees(t.Context()); return err },
			"Flatten":  func(s *Stack) error { _, err := s.Flatten(t.Context()); return err },
			"NewRoot":  func(s *Stack) error { _, err := s.NewRoot(t.Context()); return err },
		} {
			r, s := newBlobs(), openStore(t)
			below, bad, above := r.pack(t, file("a", "one")), r.pack(t, file("b", strings.Repeat("two", 900))), r.pack(t, file("c", "three"))
			name := put(t, s, r, below, above, bad)
			must(t, os.Chmod(name, 0o600))
			must(t, os.WriteFile(name, spoil(r.content[bad.Digest]), 0o600))
			m := newManager(t, r, s)
			stack := m.Empty()
			for _, b := range []layer.Descriptor{below, bad, above} {
				stack = stack.With(m.Stored(b, time.Time{}))
			}
			err := read(stack)
			var damaged *store.DamagedError
			if !errors.As(err, &damaged) || damaged.Digest != bad.Digest {
				t.Errorf("%s, %s: got %v", damage, part, err)
			}
			if _, ok := s.TouchBlob(bad.Digest); ok {
				t.Errorf("%s, %s: the store still has the blob", damage, part)
			}
			if _, ok := s.TouchBlob(below.Digest); !ok {
				t.Errorf("%s, %s: the store has dropped another blob", damage, part)
			}
		}
	}
}

// TestOpenDamaged checks that a damaged blob is not read to its end without an error.
func TestOpenDamaged(t *testing.T) {
	t.Parallel()
	r, s := newBlobs(), openStore(t)
	b := r.pack(t, file("a", strings.Repeat("text", 900)))
	name := put(t, s, r, b)
	must(t, os.Chmod(name, 0o600))
	spoiled := bytes.Clone(r.content[b.Digest])
	spoiled[len(spoiled)-1] ^= 1
	must(t, os.WriteFile(name, spoiled, 0o600))
	body, err := newManager(t, r, s).Stored(b, time.Time{}).Open(t.Context())
	if err == nil {
		_, err = io.Copy(io.Discard, body)
		body.Close()
	}
	if err == nil {
		t.Error("the damage was not found")
	}
}

// TestMissingBlob checks a layer whose blob neither the store nor another place has.
func TestMissingBlob(t *testing.T) {
	t.Parallel()
	m := newManager(t, newBlobs(), openStore(t))
	b := layer.Descriptor{Digest: layer.FromBytes([]byte("x")), DiffID: layer.FromBytes([]byte("y"))}
	stack := m.Empty().With(m.Stored(b, time.Time{}))
	_, err := stack.FullView(t.Context())
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "layer "+string(b.Digest)+": ") {
		t.Errorf("listing: %v", err)
	}
	if _, err := stack.Top().Open(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("blob: %v", err)
	}
	if stack.NeedsFetch() {
		t.Error("a layer without an origin is to be fetched")
	}
}

// TestDamagedTree checks the error for a file of a tree that does not have its digest.
func TestDamagedTree(t *testing.T) {
	t.Parallel()
	m := newManager(t, newBlobs(), openStore(t))
	stack := m.Empty().Add(NewLayer{Changes: DiffChanges{file("a", "text")}})
	v, err := stack.FullView(t.Context())
	must(t, err)
	n, _ := v.Lookup("a")
	f, err := stack.Open(n)
	must(t, err)
	defer f.Close()
	guarded, ok := f.(tarball.Guarded)
	if !ok {
		t.Fatalf("%T has no error for damage", f)
	}
	cause := errors.New("another digest")
	got := guarded.Changed(cause)
	if !errors.Is(got, cause) || !strings.Contains(got.Error(), "was damaged on disk") || !strings.Contains(got.Error(), "cairn check --repair") {
		t.Errorf("got %v", got)
	}
	must(t, m.Wait())
}

// TestWriteErrors checks that a blob that cannot be written leaves nothing in the store,
// and that a step is not blamed for the end of the build.
func TestWriteErrors(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	failed, ended := errors.New("failed"), errors.New("the build ended")
	m := newManager(t, newBlobs(), s)
	if _, err := m.WriteScratch(func(w io.Writer) error {
		_, _ = io.WriteString(w, "some bytes")
		return failed
	}); err != failed {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	m = New(ctx, Options{Store: s, Registry: newBlobs()})
	cancel(ended)
	stack := m.Empty().Add(NewLayer{Changes: DiffChanges{file("a", "x")}, WrapError: func(error) error { return failed }})
	if _, err := stack.Top().Blob(t.Context()); err != ended {
		t.Errorf("after the end of the build: %v", err)
	}
	if err := m.Wait(); err != ended {
		t.Errorf("Wait: %v", err)
	}
	w := contextWriter{ctx, io.Discard}
	if n, err := w.Write([]byte("x")); n != 0 || err != ended {
		t.Errorf("a write after the end: %d, %v", n, err)
	}
	m = newManager(t, newBlobs(), s)
	m.fail(nil)
	m.fail(failed)
	m.fail(ended)
	if err := m.Wait(); err != failed {
		t.Errorf("the first error is %v", err)
	}
}

// TestReadContent checks which files a listing carries.
func TestReadContent(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	broken := file("etc/passwd", "text")
	broken.Open = func() (io.ReadCloser, error) { return nil, failed }
	large := file("etc/passwd", "text")
	large.Size = listing.MaxContent + 1
	link := tarball.Change{Entry: listing.Entry{Path: "etc/group", Type: listing.TypeSymlink, Size: 5}}
	for _, c := range []struct {
		change tarball.Change
		want   string
		err    error
	}{
		{file("etc/passwd", "text"), "text", nil},
		{file("etc/group", "text"), "text", nil},
		{file("etc/shadow", "text"), "", nil},
		{file("etc/passwd", ""), "", nil},
		{large, "", nil},
		{link, "", nil},
		{broken, "", failed},
	} {
		e := c.change.Entry
		if err := readContent(&e, c.change); err != c.err || string(e.Content) != c.want {
			t.Errorf("%s: %q, %v", e.Path, e.Content, err)
		}
	}
}
