package tarball

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

// A jail is a directory for a tree next to files that must not change.
type jail struct {
	dir, outside, tree string
	before             []string
}

func newJail(t testing.TB) *jail {
	t.Helper()
	j := &jail{dir: t.TempDir()}
	j.outside, j.tree = filepath.Join(j.dir, "outside"), filepath.Join(j.dir, "tree")
	for _, d := range []string{j.outside, j.tree} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"secret", "a", "b"} {
		if err := os.WriteFile(filepath.Join(j.outside, f), []byte(f), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	j.before = j.state(t)
	return j
}

func (j *jail) state(t testing.TB) []string {
	t.Helper()
	var lines []string
	for _, l := range treeOf(t, j.dir) {
		if !strings.HasPrefix(l, "tree") {
			lines = append(lines, l)
		}
	}
	return lines
}

func (j *jail) check(t testing.TB) {
	t.Helper()
	if diff := cmp.Diff(j.before, j.state(t)); diff != "" {
		t.Errorf("something outside of the tree changed:\n%s", diff)
	}
}

// show formats a listing in one line.
func show(x *listing.Listing) string {
	var all []string
	for _, e := range x.Entries {
		s := e.Path
		switch e.Type {
		case listing.TypeDir:
			s += "/"
		case listing.TypeSymlink:
			s += " -> " + e.Link
		case listing.TypeHardlink:
			s += " == " + e.Link
		case listing.TypeWhiteout:
			s = "-" + s
		case listing.TypeOpaque:
			s += "!"
		}
		all = append(all, s)
	}
	return strings.Join(all, "|")
}

// hostileCase is a tar and the listing of the result, or "error: " and a part of the
// message.
type hostileCase struct {
	name string
	tar  []string
	want string
}

func hostileCases() []hostileCase {
	return []hostileCase{
		{"dot dot", []string{"../outside/x = 1"}, "outside/x"},
		{"dot dot inside", []string{"a/", "a/../b = 1", "./../c = 1", "a/d/../../e/../f = 1"}, "a/|b|c|f"},
		{"dot dot above the root", []string{"a/", "a/../../outside/x = 1"}, "a/|outside/x"},
		{"dot dot after a symlink", []string{"l -> OUT/a", "l/../x = 1"}, "l -> OUT/a|x"},
		{"dot dot is the root", []string{"../", "a/.. -> OUT", ".. = 1", "b = 1"}, "b"},
		{"dot dot in a whiteout", []string{"a/../.wh.b = ", "../c/.wh..wh..opq = "}, "-b|c!"},
		{"dot dot in a hard link", []string{"a = 1", "h == ../b/../a"}, "a|h == a"},
		{"absolute", []string{"/outside/x = 1"}, "outside/x"},
		{"slashes and dots", []string{".//a/./", "a//b = 1"}, "a/|a/b"},
		{"root", []string{"./", "/"}, "./"},
		{"root is a symlink", []string{"./ -> OUT"}, "error: root must be a directory"},
		{"root is a symlink, bare", []string{". -> OUT"}, "error: root must be a directory"},
		{"root is a file", []string{". = 1"}, "error: root must be a directory"},
		{"file through symlink", []string{"l -> OUT", "l/x = 1"}, "l -> OUT|OUTREL/x"},
		{"file through relative symlink", []string{"l -> ../outside", "l/x = 1"}, "l -> ../outside|outside/x"},
		{"file through symlink chain", []string{"a -> b", "b -> /c/../..", "a/x = 1"}, "a -> b|b -> /c/../..|x"},
		{"file over symlink", []string{"l -> OUT/secret", "l = 1"}, "l"},
		{"directory over symlink", []string{"l -> OUT", "l/", "l/x = 1"}, "-l|l/|l/x"},
		{"symlink over directory", []string{"d/", "d/x = 1", "d -> OUT", "d/y = 1"}, "d -> OUT|OUTREL/y"},
		{"whiteout through symlink", []string{"l -> OUT", "l/.wh.secret = "}, "l -> OUT|-OUTREL/secret"},
		{"opaque through symlink", []string{"l -> OUT", "l/.wh..wh..opq = "}, "l -> OUT|OUTREL!"},
		{"hard link out", []string{"h == ../outside/secret"}, "error: not a file in this layer"},
		{"hard link to absolute", []string{"h == OUT/secret"}, "error: not a file in this layer"},
		{"hard link through symlink", []string{"l -> OUT", "h == l/secret"}, "error: not a file in this layer"},
		{"hard link to symlink", []string{"l -> OUT/secret", "h == l", "h = over"}, "h|l -> OUT/secret"},
		{"write through hard linked symlink", []string{"l -> OUT", "h == l", "h/x = 1"}, "h -> OUT|l -> OUT|OUTREL/x"},
		{"hard link to nothing", []string{"h == none"}, "error: not a file in this layer"},
		{"hard link to directory", []string{"d/", "h == d"}, "error: not a file in this layer"},
		{"hard link in the place of its directory", []string{"d/e/f = 1", "d == d/e/f"}, "error: in the directory that it would replace"},
		{"hard link in the place of its directory, by a link", []string{"d/f = 1", "l -> .", "l/d == d/f"}, "error: in the directory that it would replace"},
		{"hard link in the place of another directory", []string{"d/f = 1", "dd/f = 1", "d == dd/f"}, "d|dd/f == d"},
		{"hard link to itself", []string{"f = 1", "f == f"}, "f"},
		{"hard link sorts first", []string{"z = 1", "a == z"}, "a|z == a"},
		{"target replaced", []string{"a = 1", "b == a", "c == a", "a = 2"}, "a|b|c == b"},
		{"symlink loop", []string{"a -> b", "b -> a", "a/x = 1"}, "error: too many levels"},
		{"self loop", []string{"a -> a/a", "a/x = 1"}, "error: too many levels"},
		{"below a file", []string{"f = 1", "f/x = 1"}, "error: not a directory"},
		{"file over directory", []string{"d/", "d/x = 1", "d = 1"}, "d"},
		{"directory over file", []string{"d = 1", "d/", "d/x = 1"}, "-d|d/|d/x"},
		{"empty whiteout", []string{".wh. = "}, "error: whiteout of"},
		{"whiteout of dot", []string{"a/.wh.. = "}, "error: whiteout of"},
		{"whiteout of dot dot", []string{"a/.wh... = "}, "error: whiteout of"},
		{"whiteout as directory", []string{".wh.a/"}, "error: whiteout can't be a directory"},
		{"below a whiteout", []string{".wh.a/x = 1"}, "error: is a whiteout"},
		{"aufs", []string{".wh..wh.plnk/", ".wh..wh.plnk/1.2 = x", ".wh..wh.aufs = "}, ""},
		{"whiteout after addition", []string{"a = 1", ".wh.a = "}, "-a|a"},
		{"whiteout before addition", []string{".wh.a = ", "a = 1"}, "-a|a"},
		{"whiteout, then parent implied", []string{".wh.a = ", "a/b = 1"}, "-a|a/b"},
		{"opaque root", []string{".wh..wh..opq = ", "a = 1"}, ".!|a"},
		{"opaque without directory", []string{"d/.wh..wh..opq = "}, "d!"},
		{"twice", []string{"a = 1", "a = 22"}, "a"},
		{"long name", []string{strings.Repeat("x", 256) + " = 1"}, "error: file name too long"},
		{"long path", []string{strings.Repeat("xxxxxxx/", 512) + "x = 1"}, "error: too long"},
		{"long through symlink", []string{"l -> " + strings.Repeat("xxxxxxx/", 400), "l/" + strings.Repeat("y/", 500) + "z = 1"}, "error: file name too long"},
		{"empty symlink", []string{"a -> "}, "error: symlink to"},
	}
}

func TestHostile(t *testing.T) {
	t.Parallel()
	for _, tt := range hostileCases() {
		t.Run(tt.name, func(t *testing.T) {
			j := newJail(t)
			fill := strings.NewReplacer("OUTREL", strings.TrimPrefix(j.outside, "/"), "OUT", j.outside)
			var headers []*tar.Header
			for _, l := range tt.tar {
				headers = append(headers, line(fill.Replace(l)))
			}
			if tt.name == "root is a symlink" {
				headers[0] = &tar.Header{Name: "./", Typeflag: tar.TypeSymlink, Linkname: j.outside}
			}
			raw := rawTar(t, headers...)
			scanned, scanErr := Scan(bytes.NewReader(raw), Limits{})
			applied, applyErr := Apply(j.tree, bytes.NewReader(raw), ApplyOptions{NoChown: os.Geteuid() != 0})
			j.check(t)
			if message, ok := strings.CutPrefix(tt.want, "error: "); ok {
				for _, err := range []error{scanErr, applyErr} {
					if err == nil || !strings.Contains(err.Error(), message) {
						t.Errorf("error %v, want %q", err, message)
					}
				}
				return
			}
			if scanErr != nil || applyErr != nil {
				t.Fatalf("%v, %v", scanErr, applyErr)
			}
			if got := sortedShow(show(scanned)); got != sortedShow(fill.Replace(tt.want)) {
				t.Errorf("index %s, want %s", show(scanned), fill.Replace(tt.want))
			}
			if diff := cmp.Diff(scanned, applied); diff != "" {
				t.Errorf("-scanned +applied\n%s", diff)
			}
			compareDisk(t, scanned, j.tree)
		})
	}
}

func sortedShow(s string) string {
	all := strings.Split(s, "|")
	for i := range all {
		for k := i; k > 0 && all[k] < all[k-1]; k-- {
			all[k], all[k-1] = all[k-1], all[k]
		}
	}
	return strings.Join(all, "|")
}

// compareDisk checks that a tree on disk is equal to the view of its listing.
func compareDisk(t testing.TB, x *listing.Listing, tree string) {
	t.Helper()
	want := viewLines(t, listing.Empty().WithLayer(x))
	var got []string
	for _, l := range diskLines(t, tree) {
		if !strings.HasSuffix(l, " whiteout") {
			got = append(got, l)
		}
	}
	if x := missingWhiteoutParents(want, got); len(x) > 0 {
		got = without(got, x)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-view +disk\n%s\nindex %s", diff, show(x))
	}
}

// missingWhiteoutParents returns the directories that a tree has only because they
// contain a whiteout.
func missingWhiteoutParents(want, got []string) map[string]bool {
	known := map[string]bool{}
	for _, l := range want {
		known[strings.Fields(l)[0]] = true
	}
	extra := map[string]bool{}
	for _, l := range got {
		if p := strings.Fields(l)[0]; !known[p] && strings.HasSuffix(p, "/") {
			extra[l] = true
		}
	}
	return extra
}

func without(all []string, gone map[string]bool) []string {
	var left []string
	for _, s := range all {
		if !gone[s] {
			left = append(left, s)
		}
	}
	return left
}

// viewLines and diskLines show the same tree in the same lines.
func viewLines(t testing.TB, v *listing.View) []string {
	t.Helper()
	var lines []string
	err := v.Walk(".", func(n listing.Node) error {
		lines = append(lines, nodeLine(n))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sorted(lines)
}

func nodeLine(n listing.Node) string {
	switch n.Type {
	case listing.TypeDir:
		return fmt.Sprintf("%s/ %o", n.Path, n.Mode)
	case listing.TypeSymlink:
		return n.Path + " -> " + n.Link
	case listing.TypeFile, listing.TypeHardlink:
		return fmt.Sprintf("%s %o %d %.16s", n.Path, n.Mode, n.Size, n.Digest.Hex())
	}
	return fmt.Sprintf("%s type %d", n.Path, n.Type)
}

func diskLines(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	err := filepath.Walk(root, func(p string, fi os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		lines = append(lines, diskLine(t, p, rel, fi))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sorted(lines)
}

func diskLine(t testing.TB, p, rel string, fi os.FileInfo) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		t.Fatal(err)
	}
	n := listing.Node{Entry: listing.Entry{Path: rel, Mode: st.Mode & 0o7777}}
	switch {
	case fi.IsDir():
		n.Type = listing.TypeDir
	case fi.Mode()&os.ModeSymlink != 0:
		n.Type = listing.TypeSymlink
		n.Link, _ = os.Readlink(p)
	case fi.Mode().IsRegular():
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		n.Type, n.Size, n.Digest = listing.TypeFile, fi.Size(), digestOf(b)
	case fi.Mode()&os.ModeNamedPipe != 0:
		n.Type = listing.TypeFifo
	case fi.Mode()&os.ModeCharDevice != 0 && st.Rdev == 0:
		return rel + " whiteout"
	}
	return nodeLine(n)
}

// bomb writes n headers.
func bomb(n int, header func(i int) *tar.Header) io.Reader {
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		for i := range n {
			if tw.WriteHeader(header(i)) != nil {
				return
			}
		}
		w.CloseWithError(tw.Close())
	}()
	return r
}

func TestBombs(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("d/", 2000)
	tests := []struct {
		name   string
		limits Limits
		n      int
		header func(i int) *tar.Header
		want   string
	}{
		{"entries", Limits{MaxEntries: 1000}, 1001, func(i int) *tar.Header {
			return &tar.Header{Name: "same", Typeflag: tar.TypeReg}
		}, "it holds more than 1000 entries"},
		{"implied directories", Limits{MaxEntries: 10_000}, 1000, func(i int) *tar.Header {
			return &tar.Header{Name: fmt.Sprintf("%d/%sx", i, deep), Typeflag: tar.TypeReg}
		}, "too many entries"},
		{"paths", Limits{maxMeta: 5 << 20}, 10_000, func(i int) *tar.Header {
			return &tar.Header{Name: fmt.Sprintf("%d/%sx", i, deep), Typeflag: tar.TypeReg}
		}, "too long paths"},
		{"link targets", Limits{maxMeta: 5 << 20}, 10_000, func(i int) *tar.Header {
			return &tar.Header{Name: fmt.Sprint(i), Linkname: strings.Repeat("x", 4000), Typeflag: tar.TypeSymlink}
		}, "too long paths"},
		{"attributes", Limits{maxMeta: 5 << 20}, 10_000, func(i int) *tar.Header {
			return &tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 60_000)}}
		}, "too many entries"},
		{"bytes", Limits{MaxBytes: 1000}, 1, func(i int) *tar.Header {
			return &tar.Header{Name: "x", Size: 1001, Typeflag: tar.TypeReg}
		}, "its files have more than 1000 bytes"},
		{"bytes of a whiteout", Limits{MaxBytes: 1000}, 1, func(i int) *tar.Header {
			return &tar.Header{Name: ".wh.x", Size: 1001, Typeflag: tar.TypeReg}
		}, "its files have more than 1000 bytes"},
		{"a size of a link, which has no bytes", Limits{MaxBytes: 1000, MaxEntries: 1}, 2, func(i int) *tar.Header {
			return &tar.Header{Name: "x", Linkname: "y", Size: 1001, Typeflag: tar.TypeSymlink}
		}, "it holds more than 1 entries"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := bomb(tt.n, tt.header)
			defer r.(io.Closer).Close()
			if _, err := Scan(r, tt.limits); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	zeros := io.MultiReader(bytes.NewReader(lines(t, "a = 1")), io.LimitReader(zeroReader{}, 1<<40))
	if _, err := Scan(zeros, Limits{MaxBytes: 1 << 20}); err == nil || !strings.Contains(err.Error(), "after the archive") {
		t.Errorf("endless end: %v", err)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestReadsToTheEnd(t *testing.T) {
	t.Parallel()
	raw := append(lines(t, "a = 1"), make([]byte, 9000)...)
	r := bytes.NewReader(raw)
	if _, err := Scan(r, Limits{}); err != nil || r.Len() != 0 {
		t.Errorf("%v, %d bytes are left", err, r.Len())
	}
}

func TestDamagedTar(t *testing.T) {
	t.Parallel()
	raw := lines(t, "a/", "a/b = "+strings.Repeat("x", 3000), "c = 1")
	for cut := 1; cut < len(raw)-1024-511; cut += 100 {
		if cut%512 == 0 {
			continue
		}
		j := newJail(t)
		if _, err := Apply(j.tree, bytes.NewReader(raw[:cut]), ApplyOptions{NoChown: true}); err == nil {
			t.Errorf("no error when the tar ends after %d bytes", cut)
		}
	}
	if _, err := Scan(strings.NewReader(strings.Repeat("not a tar", 200)), Limits{}); err == nil {
		t.Error("accepted what is not a tar")
	}
}

func TestApplyNeedsAnEmptyDirectory(t *testing.T) {
	t.Parallel()
	j := newJail(t)
	_, err := Apply(j.outside, bytes.NewReader(lines(t, "x = 1")), ApplyOptions{NoChown: true})
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("error %v", err)
	}
	j.check(t)
}

// FuzzPAX unpacks a file with an arbitrary extended header.
func FuzzPAX(f *testing.F) {
	f.Add("30 mtime=1350244992.023960108\n", byte(tar.TypeReg))
	f.Add("20 path=../outside/a\n19 linkpath=/../x\n", byte(tar.TypeSymlink))
	f.Add("39 SCHILY.xattr.user.overlay.opaque=y\n24 SCHILY.xattr.=\x00\x01\n", byte(tar.TypeDir))
	f.Add("31 SCHILY.xattr.trusted.x=abcdef\n15 size=-1\n99999999999999999999 uid=1\n", byte(tar.TypeReg))
	f.Add("22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n30 GNU.sparse.realsize=99999\n", byte(tar.TypeReg))
	f.Add("18 uid=4294967295\n23 gid=4294967294\n", byte(tar.TypeFifo))
	f.Fuzz(func(t *testing.T, records string, kind byte) {
		raw := append(block(t, tar.TypeXHeader, "x", records), block(t, kind, "a", "")...)
		raw = append(raw, make([]byte, 1024)...)
		limits := Limits{MaxEntries: 100, MaxBytes: 1 << 20}
		x, err := Scan(bytes.NewReader(raw), limits)
		if err != nil {
			return // and deep trees take long
		}
		if _, err := listing.Decode(x.Encode()); err != nil {
			t.Fatalf("the index can't be read back: %v", err)
		}
		j := newJail(t)
		_, _ = Apply(j.tree, bytes.NewReader(raw), ApplyOptions{NoChown: true, Limits: limits})
		j.check(t)
	})
}

// block returns the bytes of a tar entry that archive/tar would not write.
func block(t testing.TB, kind byte, name, body string) []byte {
	t.Helper()
	b := make([]byte, 512, 512+len(body)+511)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x0000000000000\x00        ", len(body)))
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	b = append(b, body...)
	return append(b, make([]byte, -len(b)&511)...)
}

func TestMeterAddsUp(t *testing.T) {
	t.Parallel()
	m := Limits{MaxBytes: 1000}.Meter()
	for _, size := range []int64{500, math.MaxInt64, math.MaxInt64 - 400} {
		if err := m.Take(size); (err != nil) != (size > 500) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
