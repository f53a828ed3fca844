package listing

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/layer"
)

func sample() *Listing {
	return &Listing{Entries: []Entry{
		{Path: ".", Type: TypeDir, Mode: 0o1755, UID: 3, GID: -1, MTime: -7},
		{Path: "a", Type: TypeFile, Mode: 0o4755, UID: 1000, GID: 1000, Size: 1 << 40, MTime: 1 << 33, Digest: layer.FromBytes([]byte("x"))},
		{Path: "b", Type: TypeWhiteout},
		{Path: "b", Type: TypeDir, Mode: 0o755, XAttrs: map[string]string{"user.a": "", "security.capability": "\x01\x00"}},
		{Path: "b", Type: TypeOpaque},
		{Path: "b-", Type: TypeSymlink, Mode: 0o777, Link: "../ü"},
		{Path: "b/\xff", Type: TypeHardlink, Link: "a"},
		{Path: "dev", Type: TypeBlock, Major: 8, Minor: 1 << 20},
		{Path: "etc/passwd", Type: TypeFile, Size: 4, Content: []byte("root")},
		{Path: "fifo", Type: TypeFifo},
		{Path: strings.Repeat("long/", 200) + "x", Type: TypeChar, Major: 1, Minor: 3},
		{Path: strings.Repeat("long/", 200) + "y", Type: TypeFile},
	}}
}

func TestEncodeDecode(t *testing.T) {
	t.Parallel()
	for _, x := range []*Listing{{Entries: []Entry{}}, sample()} {
		got, err := Decode(x.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(x, got); diff != "" {
			t.Error(diff)
		}
		if !bytes.Equal(x.Encode(), got.Encode()) {
			t.Error("encoding differs the second time")
		}
	}
}

func TestMalformedDigestIsUnknown(t *testing.T) {
	t.Parallel()
	for _, d := range []layer.Digest{"x", "sha256:", "sha256:" + layer.Digest(strings.Repeat("g", 64)), "md5:" + layer.Digest(strings.Repeat("a", 67))} {
		x := &Listing{Entries: []Entry{{Path: "a", Type: TypeFile, Digest: d}}}
		if got, err := Decode(x.Encode()); err != nil || got.Entries[0].Digest != "" {
			t.Errorf("%q: %+v, %v", d, got, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	bad := []Entry{
		{Path: "/a", Type: TypeFile},
		{Path: "a/", Type: TypeFile},
		{Path: "a/../b", Type: TypeFile},
		{Path: "..", Type: TypeFile},
		{Path: "", Type: TypeFile},
		{Path: "a\x00", Type: TypeFile},
		{Path: strings.Repeat("x", MaxPath+1), Type: TypeFile},
		{Path: "a", Type: 0},
		{Path: "a", Type: TypeOpaque + 1},
		{Path: "a", Type: TypeFile, Mode: 0o10000},
		{Path: "a", Type: TypeFile, Size: -1},
		{Path: "a", Type: TypeHardlink, Link: "../b"},
		{Path: "a", Type: TypeSymlink},
		{Path: "a", Type: TypeFile, Content: []byte("x")},
		{Path: ".", Type: TypeSymlink, Link: "x"},
		{Path: ".", Type: TypeWhiteout},
	}
	for _, e := range bad {
		if _, err := Decode((&Listing{Entries: []Entry{e}}).Encode()); err == nil {
			t.Errorf("accepted %+v", e)
		}
	}
	unsorted := &Listing{Entries: []Entry{{Path: "b", Type: TypeFile}, {Path: "a", Type: TypeFile}}}
	if _, err := Decode(unsorted.Encode()); err == nil {
		t.Error("accepted entries out of order")
	}
	good := sample().Encode()
	for i := range good {
		damaged := bytes.Clone(good)
		damaged[i] ^= 0x40
		if _, err := Decode(damaged); err == nil {
			t.Fatalf("accepted damage at byte %d", i)
		}
		if _, err := Decode(good[:i]); err == nil {
			t.Fatalf("accepted the first %d bytes", i)
		}
	}
}

func TestDecodeBodyNeverPanics(t *testing.T) {
	t.Parallel()
	body := sample().Encode()[len(magic)+4:]
	for i := range body {
		if _, err := decodeBody(body[:i]); err == nil {
			t.Fatalf("accepted the first %d bytes", i)
		}
	}
}

// large returns a listing similar to that of a distribution's base image.
func large(n int) *Listing {
	x := &Listing{}
	for i := range n / 20 {
		dir := fmt.Sprintf("usr/share/some/package-%05d", i)
		x.Entries = append(x.Entries, Entry{Path: dir, Type: TypeDir, Mode: 0o755, MTime: 1700000000})
		for j := range 19 {
			x.Entries = append(x.Entries, Entry{
				Path: fmt.Sprintf("%s/file-%03d.txt", dir, j), Type: TypeFile, Mode: 0o644,
				Size: int64(i * j), MTime: 1700000000 + int64(i), Digest: layer.FromBytes([]byte{byte(i), byte(j)}),
			})
		}
	}
	return x
}

func BenchmarkEncode(b *testing.B) {
	x := large(20000)
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(x.Encode())))
	}
}

func BenchmarkDecode(b *testing.B) {
	data := large(20000).Encode()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkViewBase(b *testing.B) {
	x := large(20000)
	b.ReportAllocs()
	for b.Loop() {
		Empty().WithLayer(x)
	}
}

func BenchmarkViewSmallLayer(b *testing.B) {
	v := Empty().WithLayer(large(20000))
	x := &Listing{Entries: []Entry{
		{Path: "usr/share/some/package-00100/new", Type: TypeFile},
		{Path: "usr/share/some/package-00200/file-003.txt", Type: TypeWhiteout},
	}}
	b.ReportAllocs()
	for b.Loop() {
		v.WithLayer(x)
	}
}

func BenchmarkWalk(b *testing.B) {
	v := Empty().WithLayer(large(20000))
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Walk(".", func(Node) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
