package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		text := h.PAXRecords["text"]
		h.PAXRecords = nil
		h.Size = int64(len(text))
		must(t, w.WriteHeader(&h))
		_, err := w.Write([]byte(text))
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func tarFile(name, text string, sec int64) tar.Header {
	return tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: 0o640, Uid: 5, Gid: 70000,
		ModTime: time.Unix(sec, 0), PAXRecords: map[string]string{"text": text},
	}
}

func TestUnpacked(t *testing.T) {
	first := tarFile("d/f", "text", 100)
	raw := archive(t, first,
		tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "d/f"},
		tar.Header{Typeflag: tar.TypeDir, Name: "young", Mode: 0o700, Uid: 9, ModTime: time.Unix(500, 0)},
		tarFile(".dockerignore", "d\n", 90),
	)
	dir := t.TempDir()
	u, err := Unpack(dir, bytes.NewReader(raw), tarball.Limits{})
	must(t, err)
	if at, ok := u.Newest(); !ok || at != 100 {
		t.Errorf("newest file: %d %v", at, ok)
	}
	d, err := OpenUnpacked(dir, u)
	must(t, err)
	defer d.Close()
	got := scan(t, d)
	if at := got["d"].MTime; at != 100 {
		t.Errorf("d, which has no entry: time %d", at)
	}
	f, a := got["d/f"], got["a"]
	if f.UID != 5 || f.GID != 70000 || f.Mode != 0o640 || f.MTime != 100 || f.Digest == "" {
		t.Errorf("d/f: %+v", f.Entry)
	}
	if a.Type != listing.TypeFile || a.Digest != f.Digest || a.UID != 5 || a.Ident == (Ident{}) || a.Ident != f.Ident {
		t.Errorf("a: %+v %+v", a.Entry, a.Ident)
	}
	if y := got["young"]; y.UID != 9 || y.Mode != 0o700 {
		t.Errorf("young: %+v", y.Entry)
	}
}

func TestNewestOfNothing(t *testing.T) {
	u, err := Unpack(t.TempDir(), bytes.NewReader(archive(t, tar.Header{Typeflag: tar.TypeDir, Name: "d"})), tarball.Limits{})
	must(t, err)
	if at, ok := u.Newest(); ok {
		t.Errorf("newest file: %d", at)
	}
}

func TestIsArchive(t *testing.T) {
	plain := archive(t, tarFile("f", "text", 1))
	long := strings.Repeat("long/", 500) + "f"
	pax := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Format: tar.FormatPAX, ModTime: time.Unix(1, 5)})
	longPAX := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: long, Format: tar.FormatPAX})
	longGNU := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: long, Format: tar.FormatGNU})
	var global bytes.Buffer
	must(t, tar.NewWriter(&global).WriteHeader(&tar.Header{
		Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": long},
	}))
	spoiled := bytes.Clone(pax[:ArchiveHead])
	spoiled[0]++
	zeros := make([]byte, ArchiveHead-1)
	for name, c := range map[string]struct {
		head []byte
		want bool
	}{
		"tar":        {plain[:ArchiveHead], true},
		"short tar":  {plain[:300], false},
		"pax":        {pax[:ArchiveHead], true},
		"pax name":   {longPAX[:ArchiveHead], true},
		"gnu name":   {longGNU[:ArchiveHead], true},
		"global":     {global.Bytes()[:ArchiveHead], true},
		"short pax":  {pax[:511], false},
		"spoiled":    {spoiled, false},
		"odd zeros":  {zeros, false},
		"gzip":       {[]byte("\x1f\x8b\x08rest"), true},
		"bzip2":      {[]byte("BZh91AY"), true},
		"xz":         {[]byte("\xfd7zXZ\x00"), true},
		"zstd":       {[]byte("\x28\xb5\x2f\xfd"), true},
		"Dockerfile": {[]byte("FROM scratch\nCOPY . /\n"), false},
		"empty":      {nil, false},
		"zeros":      {make([]byte, ArchiveHead), false},
	} {
		if got := IsArchive(c.head); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// FuzzUnpack looks for archives that write outside of their directory, or that result in a
// context that cannot be read.
func FuzzUnpack(f *testing.F) {
	sym := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	hard := func(name, to string) tar.Header { return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to} }
	f.Add(archive(f, tarFile("../x", "1", 1)))
	f.Add(archive(f, tarFile("/etc/x", "1", 1)))
	f.Add(archive(f, sym("a", ".."), tarFile("a/x", "1", 1)))
	f.Add(archive(f, sym("a", "/"), tarFile("a/x", "1", 1), hard("b", "a/x")))
	f.Add(archive(f, sym("a", "../beside"), hard("b", "a"), tarFile("b", "1", 1)))
	f.Add(archive(f, tarFile("a", "1", 1), hard("b", "a"), tarFile("b/c", "1", 1)))
	f.Add(archive(f, tarFile(".wh.a", "1", 1), tarFile(".wh..wh..opq", "1", 1)))
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}, hard("b", "null")))
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(archive(f, tarFile("f", "text", 1)))
	w.Close()
	f.Add(gz.Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		top := t.TempDir()
		dir, beside := filepath.Join(top, "dir"), filepath.Join(top, "beside")
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.WriteFile(beside, []byte("as it was"), 0o600))
		u, err := Unpack(dir, bytes.NewReader(raw), tarball.Limits{})
		names, listErr := os.ReadDir(top)
		must(t, listErr)
		if text, err := os.ReadFile(beside); err != nil || string(text) != "as it was" || len(names) != 2 {
			t.Fatalf("it left its directory: %v %q %v", names, text, err)
		}
		if err != nil {
			return
		}
		d, err := OpenUnpacked(dir, u)
		must(t, err)
		defer d.Close()
		if err := d.Scan(context.Background(), ".", WalkOptions{}, func([]File) {}); err != nil {
			t.Fatalf("it can't be read: %v", err)
		}
	})
}
