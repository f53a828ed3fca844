package compress

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/cairn-build/cairn/layer"
)

// text returns data that compresses about as well as program files.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the quick brown fox jumps over lazy dogs func return error nil package import")
	b := make([]byte, 0, n+32)
	for len(b) < n {
		x := r.Uint64()
		if x%8 == 0 {
			b = append(strconv.AppendUint(b, x, 16), ' ')
		}
		b = append(append(b, words[(x>>8)%uint64(len(words))]...), ' ')
	}
	return b[:n]
}

// sizes has sizes at which the writer changes its method.
func sizes() []int {
	return []int{0, 1, 512, tinyLayer - 1, tinyLayer, tinyLayer + 1, gzipBlock - 1, gzipBlock, gzipBlock + 1,
		2 * gzipBlock, 2*gzipBlock + 7, zstdBlock + 1, 2*zstdBlock + 1}
}

func formats() []Options {
	return []Options{{}, {Gzip, 1}, {Gzip, 9}, {Zstd, 0}, {Zstd, 7}, {Uncompressed, 0}}
}

func compressed(t testing.TB, o Options, data []byte, piece int) ([]byte, layer.Descriptor) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, o)
	if err != nil {
		t.Fatal(err)
	}
	for rest := data; len(rest) > 0; {
		n := min(piece, len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), w.Blob()
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	all := text(2*zstdBlock + 1)
	for _, o := range formats() {
		for _, size := range sizes() {
			if o.Level > 5 && size > tinyLayer+1 && size != gzipBlock+1 {
				continue
			}
			data := all[:size]
			out, blob := compressed(t, o, data, 100_000)
			if blob.DiffID != layer.FromBytes(data) || blob.Digest != layer.FromBytes(out) || blob.Size != int64(len(out)) {
				t.Errorf("%v, %d bytes: blob %+v", o, size, blob)
			}
			again, _ := compressed(t, o, data, 1<<30)
			if !bytes.Equal(out, again) {
				t.Errorf("%v, %d bytes: bytes depend on how they are written", o, size)
			}
			r, err := NewReader(bytes.NewReader(out))
			if err != nil {
				t.Fatal(err)
			}
			back, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(back, data) {
				t.Errorf("%v, %d bytes: read back %d bytes, %v", o, size, len(back), err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// Other programs must be able to read the output.
func TestForeignReaders(t *testing.T) {
	t.Parallel()
	data := text(5*gzipBlock + 3)
	out, _ := compressed(t, Options{}, data, 1<<20)
	zr, err := gzip.NewReader(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if back, err := io.ReadAll(zr); err != nil || !bytes.Equal(back, data) {
		t.Errorf("compress/gzip: %d bytes, %v", len(back), err)
	}
	for _, c := range []struct {
		o    Options
		tool []string
	}{{Options{}, []string{"gzip", "-dc"}}, {Options{Format: Zstd}, []string{"zstd", "-dc"}}} {
		if _, err := exec.LookPath(c.tool[0]); err != nil {
			t.Logf("without %s: %v", c.tool[0], err)
			continue
		}
		out, _ := compressed(t, c.o, data, 1<<20)
		cmd := exec.Command(c.tool[0], c.tool[1:]...)
		cmd.Stdin = bytes.NewReader(out)
		back, err := cmd.Output()
		if err != nil || !bytes.Equal(back, data) {
			t.Errorf("%v: %d bytes, %v", c.tool, len(back), err)
		}
	}
}

func TestSameBytesOnAnyNumberOfCores(t *testing.T) {
	t.Parallel()
	data := text(5*gzipBlock + 11)
	for _, o := range []Options{{}, {Format: Zstd}} {
		want, _ := compressed(t, o, data, 1<<20)
		for _, cores := range []int{1, 3, 16} {
			before := runtime.GOMAXPROCS(cores)
			got, _ := compressed(t, o, data, 1<<20)
			runtime.GOMAXPROCS(before)
			if !bytes.Equal(got, want) {
				t.Errorf("%v: other bytes on %d cores", o, cores)
			}
		}
	}
}

// TestSmallLayersNeedNoGoroutine is not parallel: it counts the goroutines of the process.
func TestSmallLayersNeedNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	w, err := NewWriter(io.Discard, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text(gzipBlock)); err != nil {
		t.Fatal(err)
	}
	if now := runtime.NumGoroutine(); now > before {
		t.Errorf("%d goroutines, %d before", now, before)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// failing fails after some bytes.
type failing struct{ left int }

var errFull = errors.New("disk is full")

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return 0, errFull
	}
	f.left -= len(p)
	return len(p), nil
}

func TestWriterBelowFails(t *testing.T) {
	t.Parallel()
	data := text(5 << 20)
	for _, o := range []Options{{}, {Format: Zstd}, {Format: Uncompressed}} {
		for _, room := range []int{0, 100, 1 << 20} {
			w, err := NewWriter(&failing{room}, o)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(data[:2<<20])
			if err == nil {
				_, err = w.Write(data)
			}
			closeErr := w.Close()
			if !errors.Is(err, errFull) && !errors.Is(closeErr, errFull) {
				t.Errorf("%v with room for %d: %v, %v", o, room, err, closeErr)
			}
			if w.Blob().Digest != "" {
				t.Errorf("%v with room for %d: has a blob", o, room)
			}
			if err := w.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
			if _, err := w.Write(data[:1]); err == nil {
				t.Error("Write after Close succeeded")
			}
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Gzip, 10}, {Gzip, -1}, {Zstd, 23}, {Uncompressed, 1}, {"lz4", 0}} {
		if _, err := NewWriter(io.Discard, o); err == nil {
			t.Errorf("%v was accepted", o)
		}
	}
}

// packed returns a sample in each format that is only read.
func packed(t testing.TB, data []byte) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for name, args := range map[string][]string{
		"xz": {"xz", "-c", "-T1"}, "xz blocks": {"xz", "-c", "--block-size=100000"}, "xz crc32": {"xz", "-c", "-C", "crc32"},
		"xz sha256": {"xz", "-c", "-C", "sha256"}, "xz none": {"xz", "-c", "-C", "none"}, "bzip2": {"bzip2", "-c"},
	} {
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Logf("without %s: %v", name, err)
			continue
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		all[name] = out
	}
	if one := all["xz"]; one != nil {
		all["xz streams"] = append(append(bytes.Clone(one), 0, 0, 0, 0), one...)
	}
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	if _, err := zw.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	all["gzip members"] = append(bytes.Clone(z.Bytes()), z.Bytes()...)
	skip := []byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'}
	frame, _ := compressed(t, Options{Format: Zstd}, data, 1<<20)
	all["zstd skippable"] = append(skip, frame...)
	return all
}

func TestReaders(t *testing.T) {
	t.Parallel()
	data := text(100_003)
	for name, in := range packed(t, data) {
		t.Run(name, func(t *testing.T) {
			want := data
			if name == "xz streams" || name == "gzip members" {
				want = append(bytes.Clone(data), data...)
			}
			for _, src := range []io.Reader{bytes.NewReader(in), iotest.HalfReader(bytes.NewReader(in))} {
				r, err := NewReader(src)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
				}
				r.Close()
			}
			for _, cut := range []int{len(in)/2 + 1, len(in) - 1} {
				if _, err := readAll(in[:cut]); err == nil {
					t.Errorf("no error when it ends after %d of %d bytes", cut, len(in))
				}
			}
		})
	}
}

func readAll(in []byte) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(in))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Damage is detected without a panic or hang.
func TestDamage(t *testing.T) {
	t.Parallel()
	data := text(20_000)
	samples := packed(t, data)
	samples["gzip"], _ = compressed(t, Options{}, data, 1<<20)
	for name, in := range samples {
		if name == "xz none" || name == "zstd skippable" {
			continue // a part without a checksum
		}
		r := rand.New(rand.NewPCG(3, 4))
		for range 40 {
			i := 20 + r.IntN(len(in)-40)
			damaged := bytes.Clone(in)
			damaged[i] ^= 1 << r.IntN(8)
			if got, err := readAll(damaged); err == nil && !strings.Contains(name, "gzip") {
				t.Errorf("%s: damage at byte %d of %d was not found, %d bytes", name, i, len(in), len(got))
			} else if err == nil && !bytes.HasPrefix(got, data) {
				t.Errorf("%s: damage at byte %d changed the data silently", name, i)
			}
		}
	}
}

func TestHugeWindowsAreRefused(t *testing.T) {
	t.Parallel()
	// A zstd frame header with a window of 2^31 bytes.
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00}
	if _, err := readAll(frame); !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("zstd: %v", err)
	}
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command("xz", "-c", "--lzma2=dict=1536MiB,mode=fast,mf=hc3,nice=4")
	cmd.Stdin = strings.NewReader("x")
	in, err := cmd.Output()
	if err != nil {
		t.Skipf("xz with a large dictionary: %v", err)
	}
	if _, err := readAll(in); err == nil || !strings.Contains(err.Error(), "dictionary of 1610612736 bytes") {
		t.Errorf("xz: %v", err)
	}
}

func TestPlainAndEmpty(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "B", "BZh", "BZhello", "not compressed"} {
		got, err := readAll([]byte(in))
		if err != nil || string(got) != in {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := NewReader(iotest.ErrReader(errFull)); !errors.Is(err, errFull) {
		t.Errorf("error of the source: %v", err)
	}
}

func TestReaderClosedEarly(t *testing.T) {
	t.Parallel()
	in, _ := compressed(t, Options{}, text(8*gzipBlock), 1<<20)
	r, err := NewReader(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("Read after Close succeeded")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzReader(f *testing.F) {
	for _, in := range packed(f, text(3000)) {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := NewReader(bytes.NewReader(in))
		if err != nil {
			return
		}
		defer r.Close()
		_, _ = io.CopyN(io.Discard, r, 4<<20) // longer outputs take time from other inputs
	})
}

// corpus returns Go's source tree as one stream of at most size bytes.
func corpus(b *testing.B, size int) []byte {
	b.Helper()
	var all bytes.Buffer
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Skipf("where is Go's tree: %v", err)
	}
	err = filepath.WalkDir(filepath.Join(strings.TrimSpace(string(root)), "src"), func(p string, d os.DirEntry, err error) error {
		if err != nil || all.Len() >= size || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		all.Write(data)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	if all.Len() < size {
		b.Skipf("Go's tree has only %d bytes of source here", all.Len())
	}
	return all.Bytes()[:size]
}

// BenchmarkLevels shows the time and the size of each level; the metric ratio is the
// size relative to compress/gzip's default, which BuildKit uses.
func BenchmarkLevels(b *testing.B) {
	data := corpus(b, 32<<20)
	var std counter
	std.w, std.hash = io.Discard, nopHash{}
	w := gzip.NewWriter(&std)
	if _, err := w.Write(data); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	for _, o := range []Options{{Gzip, 1}, {Gzip, 3}, {Gzip, 4}, {Gzip, 5}, {Gzip, 6}, {Gzip, 7}, {Zstd, 1}, {Zstd, 3}, {Zstd, 7}} {
		b.Run(fmt.Sprintf("%s-%d", o.Format, o.Level), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				blob := compressTo(b, io.Discard, o, data)
				b.ReportMetric(float64(blob.Size)/float64(std.n), "ratio")
			}
		})
	}
}

type nopHash struct{}

func (nopHash) Write(p []byte) (int, error) { return len(p), nil }
func (nopHash) Sum(b []byte) []byte         { return b }
func (nopHash) Reset()                      {}
func (nopHash) Size() int                   { return 0 }
func (nopHash) BlockSize() int              { return 1 }

func BenchmarkSmallLayer(b *testing.B) {
	for _, o := range []Options{{Format: Gzip}, {Format: Zstd}} {
		for _, size := range []int{2048, 100_000} {
			b.Run(fmt.Sprintf("%s-%d", o.Format, size), func(b *testing.B) {
				data := text(size)
				b.ReportAllocs()
				for b.Loop() {
					compressTo(b, io.Discard, o, data)
				}
			})
		}
	}
}

func compressTo(b *testing.B, out io.Writer, o Options, data []byte) layer.Descriptor {
	b.Helper()
	w, err := NewWriter(out, o)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return w.Blob()
}

func BenchmarkReader(b *testing.B) {
	data := corpus(b, 32<<20)
	for _, o := range []Options{{Gzip, 0}, {Zstd, 0}} {
		in, _ := compressed(b, o, data, 1<<20)
		b.Run(string(o.Format), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := readAll(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
