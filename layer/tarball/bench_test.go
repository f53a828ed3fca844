package tarball

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/listing"
)

// goTree returns Go's source tree as changes: some 16,000 files.
func goTree(b *testing.B) ([]Change, int64) {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skipf("where is Go's tree: %v", err)
	}
	root := strings.TrimSpace(string(out))
	var changes []Change
	var size int64
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		c := Change{Entry: listing.Entry{Path: rel, Mode: st.Mode & 0o7777, MTime: st.Mtim.Sec}}
		switch {
		case d.IsDir():
			c.Type = listing.TypeDir
		case d.Type().IsRegular():
			c.Type, c.Size = listing.TypeFile, st.Size
			c.Open = func() (io.ReadCloser, error) { return os.Open(p) }
			size += st.Size
		case d.Type()&fs.ModeSymlink != 0:
			c.Type = listing.TypeSymlink
			c.Link, err = os.Readlink(p)
		}
		changes = append(changes, c)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	slices.SortFunc(changes, func(x, y Change) int { return listing.Compare(x.Entry, y.Entry) })
	return changes, size
}

func BenchmarkWrite(b *testing.B) {
	changes, size := goTree(b)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Write(io.Discard, seq(changes)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWriteCompressed does the work of a COPY of the tree: writing the tar and
// listing, both digests and gzip.
func BenchmarkWriteCompressed(b *testing.B) {
	changes, size := goTree(b)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		w, err := compress.NewWriter(io.Discard, compress.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Write(w, seq(changes)); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func goTar(b *testing.B, o compress.Options) ([]byte, int64) {
	b.Helper()
	changes, size := goTree(b)
	var out bytes.Buffer
	w, err := compress.NewWriter(&out, o)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := Write(w, seq(changes)); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes(), size
}

func BenchmarkScan(b *testing.B) {
	raw, size := goTar(b, compress.Options{Format: compress.Uncompressed})
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Scan(bytes.NewReader(raw), Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	for _, f := range []compress.Format{compress.Uncompressed, compress.Gzip, compress.Zstd} {
		raw, size := goTar(b, compress.Options{Format: f})
		b.Run(string(f), func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				dir, err := os.MkdirTemp("", "apply")
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				r, err := compress.NewReader(bytes.NewReader(raw))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := Apply(dir, r, ApplyOptions{NoChown: os.Geteuid() != 0}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				r.Close()
				if err := os.RemoveAll(dir); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
