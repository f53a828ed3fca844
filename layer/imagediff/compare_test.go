package imagediff

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// archive makes a layer from headers. The content of a file is its name.
func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, h.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// image makes an image with one uncompressed layer.
func image(t testing.TB, raw []byte) Image {
	t.Helper()
	d := layer.FromBytes(raw)
	config := fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%q]},"history":[{"created_by":"COPY a"}]}`, d)
	img, err := layer.NewImage(config, []layer.Descriptor{{MediaType: layer.MediaTypeTar, Digest: d, DiffID: d, Size: int64(len(raw))}}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return Image{img, func(context.Context, layer.Descriptor) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}}
}

// differences returns the differences in the paths of a layer.
func differences(t testing.TB, a, b []byte) (found []string) {
	t.Helper()
	dir := t.TempDir()
	c := Comparison{Temp: dir, Emit: func(d Difference) error {
		if d.Part == "layer" && !slices.Contains([]string{"digest", "diff ID", "size"}, d.What) || d.Path != "" {
			found = append(found, strings.TrimSpace(fmt.Sprintf("%s %s: %s, %s", d.Path, d.What, d.A, d.B)))
		}
		return nil
	}}
	if err := c.Images(t.Context(), image(t, a), image(t, b)); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("files were left: %v %v", left, err)
	}
	return found
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	at := time.Unix(1700000000, 0)
	f := tar.Header{Name: "f", Mode: 0o644, ModTime: at, Format: tar.FormatPAX}
	with := func(change func(*tar.Header)) tar.Header { h := f; change(&h); return h }
	tests := map[string]struct {
		a, b tar.Header
		want []string
	}{
		"mode":   {f, with(func(h *tar.Header) { h.Mode = 0o4755 }), []string{"/f mode: 0644, 04755"}},
		"owner":  {f, with(func(h *tar.Header) { h.Uid, h.Gid, h.Uname = 1, 2, "me" }), []string{"/f uid: 0, 1", "/f gid: 0, 2", "/f user: , me"}},
		"mtime":  {f, with(func(h *tar.Header) { h.ModTime = at.Add(1) }), []string{"/f mtime: 2023-11-14T22:13:20Z, 2023-11-14T22:13:20.000000001Z", "/f header: USTAR, PAX"}},
		"xattr":  {f, with(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "\x00y"} }), []string{`/f header: USTAR, PAX`, `/f xattr user.x: , "\x00y"`}},
		"record": {f, with(func(h *tar.Header) { h.PAXRecords = map[string]string{"CAIRN.x": "y"} }), []string{`/f header: USTAR, PAX`, `/f record CAIRN.x: , "y"`}},
		"format": {f, with(func(h *tar.Header) { h.Format = tar.FormatGNU }), []string{"/f header: USTAR, GNU"}},
		"name":   {f, with(func(h *tar.Header) { h.Name = "./f" }), []string{"/f size: 1, 3", "", "/f name: f, ./f"}},
		"hard":   {with(func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeLink, "g" }), with(func(h *tar.Header) { h.Typeflag, h.Linkname = tar.TypeSymlink, "h" }), []string{"/f type: hard link, symlink", "/f link: g, h"}},
		"device": {with(func(h *tar.Header) { h.Typeflag, h.Devmajor = tar.TypeChar, 1 }), with(func(h *tar.Header) { h.Typeflag, h.Devminor = tar.TypeChar, 3 }), []string{"/f device: 1:0, 0:3"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := differences(t, archive(t, test.a), archive(t, test.b))
			for i, want := range test.want {
				if i < len(got) && want == "" {
					want = got[i] // digests of content
				}
				if i >= len(got) || got[i] != want || len(got) != len(test.want) {
					t.Fatalf("got %q, want %q", got, test.want)
				}
			}
		})
	}
}

func TestOrderRepeatsAndPadding(t *testing.T) {
	t.Parallel()
	h := func(name string) tar.Header { return tar.Header{Name: name, Mode: 0o644} }
	a := archive(t, h("a"), h("b"), h("c"))
	tests := map[string]struct {
		b    []byte
		want string
	}{
		"order":   {archive(t, h("a"), h("c"), h("b")), "order: /b before /c, /c before /b"},
		"twice":   {archive(t, h("a"), h("b"), h("c"), h("b")), "/b entry: , file, 1 bytes"},
		"padding": {append(slices.Clone(a), make([]byte, 512)...), "bytes: the same entries, padded or written otherwise"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := differences(t, a, test.b); len(got) != 1 || got[0] != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A listing that is larger than its buffer in memory is merged from its pieces.
func TestPieces(t *testing.T) {
	t.Parallel()
	var a, b []tar.Header
	long := strings.Repeat("x", 90)
	const n = 15_000
	for i := range n {
		h := tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprintf("%05d", i*7919%n), Linkname: long}
		a = append(a, h)
		switch h.Name {
		case "00001":
			continue
		case "12000":
			h.Uid = 5
		}
		b = append(b, h)
	}
	x, y := archive(t, a...), archive(t, b...)
	l := newListing(t.TempDir())
	defer l.close()
	one := image(t, x)
	if err := scan(t.Context(), blob{one.Layers[0], one.Open}, l); err != nil {
		t.Fatal(err)
	}
	if len(l.pieces) < 2 || l.n != n {
		t.Fatalf("%d pieces of %d entries: nothing is tested", len(l.pieces), l.n)
	}
	got := differences(t, x, y)
	want := []string{"/00001 entry: symlink to " + long + ",", "/12000 uid: 0, 5"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDamagedLayer(t *testing.T) {
	t.Parallel()
	a := archive(t, tar.Header{Name: "a"})
	b := archive(t, tar.Header{Name: "b"})[:512]
	err := Comparison{Temp: t.TempDir(), Emit: func(Difference) error { return nil }}.Images(t.Context(), image(t, a), image(t, b))
	if err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("got %v", err)
	}
}

func TestAlign(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ a, b, want string }{
		{"abc", "abc", "aa bb cc"},
		{"abc", "axbc", "aa -x bb cc"},
		{"abc", "ayc", "aa by cc"},
		{"", "a", "-a"},
		{"ab", "", "a- b-"},
	} {
		var got []string
		pairs, cut := align(len(test.a), len(test.b), func(i, j int) bool { return test.a[i] == test.b[j] })
		if cut != [2]int{} {
			t.Errorf("%s %s: left out %v", test.a, test.b, cut)
		}
		for _, p := range pairs {
			x, y := "-", "-"
			if p.a >= 0 {
				x = test.a[p.a : p.a+1]
			}
			if p.b >= 0 {
				y = test.b[p.b : p.b+1]
			}
			got = append(got, x+y)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s %s: got %v, want %s", test.a, test.b, got, test.want)
		}
	}
}

// Lists that are too long to match are paired by position, and the elements left out
// are counted.
func TestAlignLongLists(t *testing.T) {
	t.Parallel()
	never := func(int, int) bool { return false }
	always := func(int, int) bool { return true }
	from := func(n int) func(i, j int) bool { return func(i, j int) bool { return i == j && i < n } }
	for _, test := range []struct {
		n, m  int
		same  func(i, j int) bool
		pairs int
		cut   [2]int
	}{
		{1024, 1024, never, 1024, [2]int{}},
		{1025, 1024, never, 1024, [2]int{1, 0}},
		{5000, 3000, never, 1024, [2]int{3976, 1976}},
		{1 << 21, 1, never, 1024, [2]int{1<<21 - 1024, 0}},
		{1 << 21, 0, never, 1 << 21, [2]int{}},
		{5000, 5000, always, 5000, [2]int{}},
		{5000, 5001, always, 5001, [2]int{}},
		{5000, 5000, from(4500), 5000, [2]int{}},
		{5000, 6000, from(1000), 2024, [2]int{2976, 3976}},
	} {
		pairs, cut := align(test.n, test.m, test.same)
		if len(pairs) != test.pairs || cut != test.cut {
			t.Errorf("%d and %d: %d pairs and left out %v, want %d and %v", test.n, test.m, len(pairs), cut, test.pairs, test.cut)
		}
		for i, p := range pairs {
			if p.a >= 0 && p.a != i || p.b >= 0 && p.b != i {
				t.Errorf("%d and %d: pair %d is %v", test.n, test.m, i, p)
				break
			}
		}
	}
}

// A comparison of too many layers and history entries reports those that it left out.
func TestReportsWhatWasLeftOut(t *testing.T) {
	t.Parallel()
	many := func(seed string, n int) Image {
		var history, ids []string
		var layers []layer.Descriptor
		for i := range n {
			d := layer.FromBytes(fmt.Append(nil, seed, i))
			ids = append(ids, `"`+string(d)+`"`)
			history = append(history, fmt.Sprintf(`{"created_by":"%s %d"}`, seed, i))
			layers = append(layers, layer.Descriptor{MediaType: "application/x", Digest: d, DiffID: d, Size: 1})
		}
		config := `{"rootfs":{"diff_ids":[` + strings.Join(ids, ",") + `]},"history":[` + strings.Join(history, ",") + `]}`
		img, err := layer.NewImage([]byte(config), layers, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		return Image{Image: img}
	}
	var got []string
	c := Comparison{Temp: t.TempDir(), Emit: func(d Difference) error {
		if d.What == "too many to compare" {
			got = append(got, d.Part+": "+d.A+" / "+d.B)
		}
		return nil
	}}
	if err := c.Images(t.Context(), many("a", 3000), many("b", 1000)); err != nil {
		t.Fatal(err)
	}
	want := []string{"history: the last 1976 of 3000 / ", "layer: the last 1976 of 3000 / "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
