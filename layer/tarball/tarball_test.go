package tarball

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

const stamp = 1_600_000_000

func file(path, content string) Change {
	return Change{
		Entry: listing.Entry{Path: path, Type: listing.TypeFile, Mode: 0o644, Size: int64(len(content)), MTime: stamp},
		Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
}

func entry(path string, t listing.Type) Change {
	c := Change{Entry: listing.Entry{Path: path, Type: t, MTime: stamp, Mode: 0o644}}
	if t == listing.TypeDir {
		c.Mode = 0o755
	}
	return c
}

func dir(path string) Change     { return entry(path, listing.TypeDir) }
func whiteoutOf(p string) Change { return entry(p, listing.TypeWhiteout) }
func opaque(p string) Change     { return entry(p, listing.TypeOpaque) }
func with(c Change, f func(*Change)) Change {
	f(&c)
	return c
}

func symlink(path, to string) Change {
	return with(entry(path, listing.TypeSymlink), func(c *Change) { c.Link = to })
}

func hardlink(path, to string) Change {
	return with(entry(path, listing.TypeHardlink), func(c *Change) { c.Link = to })
}

func seq(changes []Change) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for _, c := range changes {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// everything has one entry of each kind.
func everything() []Change {
	return []Change{
		with(dir("."), func(c *Change) { c.Mode = 0o1755 }),
		opaque("."),
		with(file("big", strings.Repeat("0123456789abcdef", 40_000)), func(c *Change) { c.Mode = 0o4750; c.UID = 7; c.GID = 8 }),
		with(entry("dev", listing.TypeChar), func(c *Change) { c.Major, c.Minor = 1, 3 }),
		with(entry("disk", listing.TypeBlock), func(c *Change) { c.Major, c.Minor = 7, 300 }),
		dir("empty"),
		with(dir("etc"), func(c *Change) { c.XAttrs = map[string]string{"user.dir": "d"} }),
		file("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
		entry("fifo", listing.TypeFifo),
		whiteoutOf("gone"),
		hardlink("hard", "big"),
		with(file("huge-owner", "x"), func(c *Change) { c.UID = 4_000_000_000 }),
		with(file("old", ""), func(c *Change) { c.MTime = -5 }),
		whiteoutOf("replaced"),
		with(dir("replaced"), func(c *Change) { c.Mode = 0o2555 }),
		opaque("replaced"),
		file("replaced/"+strings.Repeat("long-", 50), "long"),
		file("replaced/ünï\xffcode", "bytes"),
		symlink("sym", "/etc/passwd"),
		with(file("xattr", "x"), func(c *Change) {
			c.XAttrs = map[string]string{"user.a": "1\x002", "security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
		}),
	}
}

func write(t testing.TB, changes []Change) ([]byte, *listing.Listing) {
	t.Helper()
	var b bytes.Buffer
	x, err := Write(&b, seq(changes))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), x.Unpack()
}

func TestWriteThenScan(t *testing.T) {
	t.Parallel()
	raw, wrote := write(t, everything())
	scanned, err := Scan(bytes.NewReader(raw), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wrote, scanned); diff != "" {
		t.Errorf("-written +scanned\n%s", diff)
	}
	if decoded, err := listing.Decode(wrote.Encode()); err != nil {
		t.Error(err)
	} else if diff := cmp.Diff(wrote, decoded); diff != "" {
		t.Error(diff)
	}
	again, _ := write(t, everything())
	if !bytes.Equal(raw, again) {
		t.Error("the second tar differs from the first")
	}
	for _, e := range wrote.Entries {
		if e.Type == listing.TypeFile && e.Digest.Validate() != nil {
			t.Errorf("%s: digest %q", e.Path, e.Digest)
		}
		if e.Path == "etc/passwd" && string(e.Content) != "root:x:0:0::/:/bin/sh\n" {
			t.Errorf("content of passwd: %q", e.Content)
		}
	}
}

func TestWriteHeaders(t *testing.T) {
	t.Parallel()
	raw, _ := write(t, everything())
	var got []string
	tr := tar.NewReader(bytes.NewReader(raw))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uname+h.Gname != "" || !h.AccessTime.IsZero() || !h.ChangeTime.IsZero() {
			t.Errorf("%s: names or times: %+v", h.Name, h)
		}
		pax := h.Name == "huge-owner" || h.Name == "old" || strings.HasPrefix(h.Name, "replaced/") && len(h.Name) > 100 ||
			strings.HasSuffix(h.Name, "code") || len(h.PAXRecords) > 0
		if (h.Format&tar.FormatPAX != 0) != pax && h.Format != tar.FormatPAX|tar.FormatUSTAR {
			t.Errorf("%s: format %v", h.Name, h.Format)
		}
		got = append(got, fmt.Sprintf("%c %.20s", h.Typeflag, h.Name))
	}
	want := []string{
		"5 ./", "0 .wh..wh..opq", "0 big", "3 dev", "4 disk", "5 empty/", "5 etc/", "0 etc/passwd", "6 fifo", "0 .wh.gone",
		"1 hard", "0 huge-owner", "0 old", "0 .wh.replaced", "5 replaced/", "0 replaced/.wh..wh..op",
		"0 replaced/long-long-l", "0 replaced/ünï\xffcode", "2 sym", "0 xattr",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	changed := func(size int, digest layer.Digest) Change {
		return with(file("f", "abc"), func(c *Change) { c.Size = int64(size); c.Digest = digest })
	}
	tests := []struct {
		name    string
		changes []Change
		want    string
	}{
		{"order", []Change{file("b", ""), file("a", "")}, "a: out of order: comes after b"},
		{"twice", []Change{file("a", ""), file("a", "")}, "out of order"},
		{"whiteout after addition", []Change{file("a", ""), whiteoutOf("a")}, "out of order"},
		{"absolute", []Change{file("/a", "")}, "not a clean relative path"},
		{"escape", []Change{file("../a", "")}, "not a clean relative path"},
		{"whiteout name", []Change{file("d/.wh.x", "")}, "begin with .wh. are reserved"},
		{"whiteout directory", []Change{file(".wh.d/x", "")}, "begin with .wh. are reserved"},
		{"root symlink", []Change{symlink(".", "x")}, "must be a directory"},
		{"long name", []Change{file("d/"+long(256), "")}, "name of 256 bytes, longer than Linux's limit of 255"},
		{"long directory", []Change{file(long(256)+"/f", "")}, "name of 256 bytes"},
		{"link to nothing", []Change{symlink("z", "")}, "z: symbolic link with an empty target"},
		{"long target", []Change{symlink("z", long(4096))}, "z: symbolic link with a target of 4096 bytes"},
		{"zero in a target", []Change{symlink("z", "a\x00b")}, "z: symbolic link with a zero byte"},
		{"owner below", []Change{with(file("f", ""), func(c *Change) { c.UID = -1 })}, "f: invalid owner -1:0"},
		{"owner above", []Change{with(dir("d"), func(c *Change) { c.GID = 1<<32 - 1 })}, "d: invalid owner 0:4294967295"},
		{"attribute without a name", []Change{with(file("f", ""), func(c *Change) { c.XAttrs = map[string]string{"": "x"} })}, "f: extended attribute"},
		{"long attribute", []Change{with(file("f", ""), func(c *Change) { c.XAttrs = map[string]string{"user." + long(251): "x"} })}, "f: extended attribute"},
		{"large attribute", []Change{with(file("f", ""), func(c *Change) { c.XAttrs = map[string]string{"user.x": long(1<<16 + 1)} })}, "f: extended attribute"},
		{"long path hidden", []Change{whiteoutOf(strings.Repeat("a/", 2045) + "abc")}, "the path of its whiteout would have 4097 bytes"},
		{"hard link first", []Change{hardlink("a", "b"), file("b", "")}, `a: hard link to "b"`},
		{"hard link to directory", []Change{dir("a"), hardlink("b", "a")}, `b: hard link to "a"`},
		{"shrunk", []Change{changed(4, "")}, "f: changed while it was read: 3 bytes instead of 4"},
		{"grown", []Change{changed(2, "")}, "f: changed while it was read: larger than its 2 bytes"},
		{"other bytes", []Change{changed(3, layer.FromBytes([]byte("abd")))}, "f: changed while it was read"},
		{"no source", []Change{{Entry: listing.Entry{Path: "f", Type: listing.TypeFile, Size: 1}}}, "f: no source"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Write(io.Discard, seq(tt.changes))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	boom := errors.New("boom")
	if _, err := Write(io.Discard, func(yield func(Change, error) bool) { yield(Change{}, boom) }); err != boom {
		t.Errorf("error of the sequence: %v", err)
	}
	ok := changed(3, layer.FromBytes([]byte("abc")))
	if _, err := Write(io.Discard, seq([]Change{ok})); err != nil {
		t.Errorf("the right digest: %v", err)
	}
}

func long(n int) string { return strings.Repeat("x", n) }

// The longest and oddest valid entries can be read again, from the tar and from the
// listing.
func TestWriteTakesTheLongest(t *testing.T) {
	t.Parallel()
	owned := with(file("owned", ""), func(c *Change) {
		c.UID, c.GID = 1<<32-2, 1<<32-2
		c.XAttrs = map[string]string{"user." + long(250): long(1 << 16)}
	})
	b, x := write(t, []Change{
		whiteoutOf(strings.Repeat("a/", 2045) + "a"), owned, symlink("sym", long(4095)),
		file(long(255), ""), dir(strings.Repeat("y/", 2047) + "y"),
	})
	if _, err := listing.Decode(x.Encode()); err != nil {
		t.Error(err)
	}
	if _, err := Scan(bytes.NewReader(b), Limits{}); err != nil {
		t.Error(err)
	}
}

func TestRootOrder(t *testing.T) {
	t.Parallel()
	for _, changes := range [][]Change{
		{dir("."), file("-x", ""), file("a", "")},
		{file("-x", ""), dir("."), file("a", "")},
	} {
		_, x := write(t, changes)
		var got []string
		for _, e := range x.Entries {
			got = append(got, e.Path)
		}
		if want := ". -x a"; strings.Join(got, " ") != want {
			t.Errorf("entries %v, want %s", got, want)
		}
	}
	changes := []Change{file("-x", "1"), dir("."), file("a", "2"), hardlink("b", "a"), hardlink("c", "-x")}
	write(t, changes)
}

// treeOf lists a directory in overlay form: one line for each path.
func treeOf(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	inodes := map[uint64]string{}
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		lines = append(lines, describe(t, p, rel, inodes))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func describe(t testing.TB, p, rel string, inodes map[uint64]string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		t.Fatal(err)
	}
	s := fmt.Sprintf("%s %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		s += fmt.Sprintf(" %.20q", b)
		if first, ok := inodes[st.Ino]; ok {
			s += " same as " + first
		}
		inodes[st.Ino] = rel
	case unix.S_IFLNK:
		to, _ := os.Readlink(p)
		s += " -> " + to
	case unix.S_IFCHR, unix.S_IFBLK:
		s += fmt.Sprintf(" %d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	if st.Mtim.Sec != stamp || st.Mtim.Nsec != 0 {
		if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
			s += fmt.Sprintf(" time %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
		}
	}
	names, err := listXAttrs(p)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		if name == "security.selinux" {
			continue
		}
		value := make([]byte, 100)
		n, _ := unix.Lgetxattr(p, name, value)
		s += fmt.Sprintf(" %s=%.10q", name, value[:n])
	}
	return s
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to set owners and make devices")
	}
}

func apply(t testing.TB, raw []byte, o ApplyOptions) (string, *listing.Listing) {
	t.Helper()
	dir := t.TempDir()
	x, err := Apply(dir, bytes.NewReader(raw), o)
	if err != nil {
		t.Fatal(err)
	}
	return dir, x
}

func TestApplyEverything(t *testing.T) {
	needRoot(t)
	if inUserNamespace(t) {
		t.Skip("needs all ids and devices")
	}
	old := unix.Umask(0o027)
	defer unix.Umask(old)
	raw, wrote := write(t, everything())
	dir, x := apply(t, raw, ApplyOptions{})
	if diff := cmp.Diff(wrote, x); diff != "" {
		t.Errorf("-written +applied\n%s", diff)
	}
	long := strings.Repeat("long-", 50)
	want := []string{
		". 41755 0:0 user.overlay.opaque=\"y\"",
		"big 104750 7:8 \"0123456789abcdef0123\"",
		"dev 20644 0:0 1,3",
		"disk 60644 0:0 7,300",
		"empty 40755 0:0",
		"etc 40755 0:0 user.dir=\"d\"",
		"etc/passwd 100644 0:0 \"root:x:0:0::/:/bin/s\"",
		"fifo 10644 0:0",
		"gone 20000 0:0 0,0",
		"hard 104750 7:8 \"0123456789abcdef0123\" same as big",
		"huge-owner 100644 4000000000:0 \"x\"",
		"old 100644 0:0 \"\" time -5.0",
		"replaced 42555 0:0 user.overlay.opaque=\"y\"",
		"replaced/" + long + " 100644 0:0 \"long\"",
		"replaced/ünï\xffcode 100644 0:0 \"bytes\"",
		"sym 120777 0:0 -> /etc/passwd",
		"xattr 100644 0:0 \"x\" security.capability=\"\\x01\\x00\\x00\\x02\\x00\\x04\\x00\\x00\\x00\\x00\" user.a=\"1\\x002\"",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, treeOf(t, dir)); diff != "" {
		t.Error(diff)
	}
	made := t.TempDir()
	if err := Materialize(made, seq(everything())); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, treeOf(t, made)); diff != "" {
		t.Errorf("materialized: %s", diff)
	}
}

// rawTar makes a tar of headers without checking them.
func rawTar(t testing.TB, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		body := []byte(nil)
		if h.Typeflag == tar.TypeReg {
			body = []byte(h.Uname)
			h.Uname = ""
			h.Size = int64(len(body))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		h.ModTime = time.Unix(stamp, 0)
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// line makes a header from "path", "path/", "path -> symlink", "path == link"
// or "path = content".
func line(s string) *tar.Header {
	if from, to, ok := strings.Cut(s, " -> "); ok {
		return &tar.Header{Name: from, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}
	}
	if from, to, ok := strings.Cut(s, " == "); ok {
		return &tar.Header{Name: from, Typeflag: tar.TypeLink, Linkname: to}
	}
	if strings.HasSuffix(s, "/") {
		return &tar.Header{Name: s, Typeflag: tar.TypeDir, Mode: 0o755}
	}
	path, content, _ := strings.Cut(s, " = ")
	return &tar.Header{Name: path, Typeflag: tar.TypeReg, Uname: content}
}

func lines(t testing.TB, all ...string) []byte {
	t.Helper()
	var headers []*tar.Header
	for _, s := range all {
		headers = append(headers, line(s))
	}
	return rawTar(t, headers...)
}

// TestLinkAttributes checks that a file gets the attributes of a hard link to it, in the
// listing and on disk.
func TestLinkAttributes(t *testing.T) {
	t.Parallel()
	blob := rawTar(t,
		&tar.Header{Name: "a", Typeflag: tar.TypeReg, Mode: 0o640, PAXRecords: map[string]string{"SCHILY.xattr.user.one": "1"}},
		&tar.Header{Name: "b", Typeflag: tar.TypeLink, Linkname: "a", Mode: 0o4755, Uid: os.Getuid(), Gid: os.Getgid(), PAXRecords: map[string]string{"SCHILY.xattr.user.two": "2"}},
		&tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "b", Mode: 0o777},
		&tar.Header{Name: "t", Typeflag: tar.TypeLink, Linkname: "s", Mode: 0o700, Uid: os.Getuid(), Gid: os.Getgid()},
	)
	dir := t.TempDir()
	applied, err := Apply(dir, bytes.NewReader(blob), ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scanned, err := Scan(bytes.NewReader(blob), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*listing.Listing{applied, scanned} {
		byPath := map[string]listing.Entry{}
		for _, e := range x.Entries {
			byPath[e.Path] = e
		}
		if a := byPath["a"]; a.Mode != 0o4755 || a.XAttrs["user.one"] != "1" || a.XAttrs["user.two"] != "2" {
			t.Errorf("a is %+v", a)
		}
		if s := byPath["s"]; s.Mode != 0o777 {
			t.Errorf("s is %+v", s)
		}
	}
	fi, err := os.Lstat(filepath.Join(dir, "a"))
	if err != nil || fi.Mode() != fs.ModeSetuid|0o755 {
		t.Errorf("mode %v, %v", fi, err)
	}
	value := make([]byte, 8)
	n, err := unix.Lgetxattr(filepath.Join(dir, "a"), "user.two", value)
	if err == unix.ENOTSUP {
		t.Skip("the file system has no attributes of users")
	}
	if err != nil || string(value[:n]) != "2" {
		t.Errorf("user.two is %q, %v", value[:max(n, 0)], err)
	}
}
