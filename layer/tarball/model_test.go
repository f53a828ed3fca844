package tarball

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tree"
)

// tarFrom makes a tar from bytes: three bytes an entry. A tame one is mostly well
// formed.
func tarFrom(t testing.TB, data []byte, outside string, tame bool) []byte {
	t.Helper()
	names := []string{"a", "b", "a/a", "a/b", "b/a", "a/a/a", "b/b/c", "c", "./a/", "/c/b", "a-", "a/a/a/a", "a/../b", "../outside/a", "."}
	if tame {
		names = names[:12]
	}
	targets := []string{"a", "b", "/a", "../b", "..", "a/b", outside, "../../" + filepath.Base(outside), ".", "/c/../b", "c"}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for ; len(data) >= 3; data = data[3:] {
		name, target := names[int(data[0])%len(names)], targets[int(data[2])%len(targets)]
		h := &tar.Header{Name: name, Mode: int64(data[2])&0o777 | 0o400, ModTime: time.Unix(stamp, 0), Typeflag: tar.TypeReg}
		body, plain := "", true
		what := data[1] % 10
		if tame && what == 6 && data[1] > 100 {
			what = 2
		}
		switch what {
		case 0, 1:
			body = strings.Repeat("x", int(data[2]))
		case 2, 3:
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", h.Mode|0o700
			plain = false
		case 4, 5:
			h.Typeflag, h.Linkname = tar.TypeSymlink, target
		case 6:
			h.Typeflag, h.Linkname = tar.TypeLink, target
		case 7:
			h.Name = listing.Join(listing.Dir(name), whiteoutPrefix+listing.Base(name))
		case 8:
			h.Name = listing.Join(name, opaqueName)
		case 9:
			h.Typeflag = tar.TypeFifo
		}
		if plain {
			h.Name = strings.TrimSuffix(h.Name, "/")
		}
		h.Size = int64(len(body))
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzApply checks that nothing outside the tree changes, that Scan and Apply agree,
// that the tree is equal to the listing, and that writing and unpacking it again
// gives the same tree.
func FuzzApply(f *testing.F) {
	f.Add([]byte{0, 4, 6, 2, 0, 9})
	f.Add([]byte("abcdefghijklmnopqrstuvwxyz0123456789"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 120 {
			return
		}
		j := newJail(t)
		raw := tarFrom(t, data, j.outside, false)
		scanned, scanErr := Scan(bytes.NewReader(raw), Limits{})
		applied, applyErr := Apply(j.tree, bytes.NewReader(raw), ApplyOptions{NoChown: os.Geteuid() != 0})
		j.check(t)
		if (scanErr == nil) != (applyErr == nil) {
			t.Fatalf("Scan: %v; Apply: %v", scanErr, applyErr)
		}
		if scanErr != nil {
			return
		}
		if diff := gocmp.Diff(scanned, applied); diff != "" {
			t.Fatalf("-scanned +applied\n%s", diff)
		}
		compareDisk(t, scanned, j.tree)
		if decoded, err := listing.Decode(scanned.Encode()); err != nil || len(decoded.Entries) != len(scanned.Entries) {
			t.Fatalf("the index can't be read back: %v", err)
		}
		roundTrip(t, scanned, j.tree)
	})
}

// roundTrip writes a tree by its listing and unpacks the result.
func roundTrip(t *testing.T, x *listing.Listing, tree string) {
	t.Helper()
	var b bytes.Buffer
	wrote, err := Write(&b, treeChanges(x, tree))
	if err != nil {
		t.Fatalf("write the tree again: %v", err)
	}
	if diff := gocmp.Diff(x, wrote.Unpack()); diff != "" {
		t.Fatalf("-first +again\n%s", diff)
	}
	again := t.TempDir()
	o := ApplyOptions{NoChown: os.Geteuid() != 0}
	if _, err := Apply(again, &b, o); err != nil {
		t.Fatal(err)
	}
	made := t.TempDir()
	if err := MaterializeOver(made, treeChanges(x, tree), o); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{again, made} {
		if diff := gocmp.Diff(diskLines(t, tree), diskLines(t, d)); diff != "" {
			t.Fatalf("-tree +again\n%s\nindex %s", diff, show(x))
		}
	}
}

func treeChanges(x *listing.Listing, tree string) func(func(Change, error) bool) {
	return func(yield func(Change, error) bool) {
		for _, e := range x.Entries {
			open := func() (io.ReadCloser, error) { return os.Open(filepath.Join(tree, e.Path)) }
			if !yield(Change{Entry: e, Open: open}, nil) {
				return
			}
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add(lines(f, "a/", "a/b = 1", "c -> a", "d == a/b", ".wh.e = "))
	raw, _ := write(f, everything()[2:9])
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		limits := Limits{MaxEntries: 1000, MaxBytes: 1 << 20}
		x, err := Scan(bytes.NewReader(raw), limits)
		if err != nil {
			return
		}
		if _, err := listing.Decode(x.Encode()); err != nil {
			t.Fatalf("the index can't be read back: %v", err)
		}
		j := newJail(t)
		// Files that the kernel refuses to make do not matter here; files that it
		// makes do.
		_, _ = Apply(j.tree, bytes.NewReader(raw), ApplyOptions{NoChown: true, Limits: limits})
		j.check(t)
	})
}

// overlay mounts trees, lowest first, in the mount namespace of the thread.
func overlay(t *testing.T, trees []string) (at string, unmount func()) {
	t.Helper()
	topFirst := slices.Clone(trees)
	slices.Reverse(topFirst)
	at = t.TempDir()
	lower := strings.Join(append(topFirst, t.TempDir()), ":")
	err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "userxattr,lowerdir="+lower)
	if err != nil {
		t.Fatal(err)
	}
	return at, func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
}

// privateMounts moves this goroutine's thread into a new mount namespace for good:
// the thread ends with the test. Other goroutines stay outside, so the test cannot
// have subtests.
func privateMounts(t *testing.T) {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		t.Skipf("unshare: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("private mounts: %v", err)
	}
	probe, at := t.TempDir(), t.TempDir()
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "userxattr,lowerdir="+probe+":"+t.TempDir()); err != nil {
		t.Skipf("overlay over %s: %v", probe, err)
	}
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
}

// TestOverlayAgreesWithView unpacks stacks of random layers, mounts them as
// overlays, and compares these with the views of their listings and the merged
// trees.
func TestOverlayAgreesWithView(t *testing.T) {
	t.Parallel()
	privateMounts(t)
	r := rand.New(rand.NewPCG(5, 6))
	compared, all := 0, rounds(t)
	for round := 0; round < all && !t.Failed(); round++ {
		if compareChain(t, r) {
			compared++
		}
	}
	if compared < all/8 {
		t.Errorf("only %d of %d chains could be applied", compared, all)
	}
	t.Logf("%d chains compared", compared)
}

// rounds returns the number of stacks to try; CAIRN_ROUNDS sets it.
func rounds(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("CAIRN_ROUNDS"), "120"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func compareChain(t *testing.T, r *rand.Rand) bool {
	view := listing.Empty()
	var trees []string
	var shown []string
	for range 2 + r.IntN(3) {
		data := make([]byte, 3*(1+r.IntN(8)))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		raw, ok := inOrder(t, tarFrom(t, data, "/nowhere", true))
		if !ok {
			return false
		}
		tree := t.TempDir()
		x, err := Apply(tree, bytes.NewReader(raw), ApplyOptions{Below: view})
		if err != nil {
			return false
		}
		view = view.WithLayer(x)
		trees, shown = append(trees, tree), append(shown, show(x))
	}
	want := viewLines(t, view)
	merged := filepath.Join(t.TempDir(), "merged")
	if err := os.Mkdir(merged, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tree.Merge(merged, trees); err != nil {
		t.Fatal(err)
	}
	mounted, unmount := overlay(t, trees)
	defer unmount()
	first := r.IntN(len(trees))
	last := first + r.IntN(len(trees)-first)
	part := t.TempDir()
	if err := tree.MergePart(part, trees[first:last+1]); err != nil {
		t.Fatal(err)
	}
	fewer, unmountFewer := overlay(t, slices.Concat(trees[:first], []string{part}, trees[last+1:]))
	defer unmountFewer()
	for name, at := range map[string]string{"overlay": mounted, "merged": merged, "merged in part": fewer} {
		got := diskLines(t, at)
		got = without(got, map[string]bool{"./ 755": true})
		if diff := gocmp.Diff(without(want, map[string]bool{"./ 755": true}), got); diff != "" {
			t.Errorf("-view +%s\n%s\nlayers:\n%s", name, diff, strings.Join(shown, "\n"))
		}
	}
	return true
}

// inOrder writes a tar again in the order of listing.Compare. In another order an
// entry's meaning can depend on symlinks below, which are not in the listing.
func inOrder(t *testing.T, raw []byte) ([]byte, bool) {
	t.Helper()
	tree := t.TempDir()
	x, err := Apply(tree, bytes.NewReader(raw), ApplyOptions{})
	if err != nil {
		return nil, false
	}
	var b bytes.Buffer
	if _, err := Write(&b, treeChanges(x, tree)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), true
}

func TestMerge(t *testing.T) {
	t.Parallel()
	needRoot(t)
	layers := [][]Change{
		{with(dir("d"), func(c *Change) { c.Mode = 0o700; c.UID = 5 }), file("d/a", "1"), file("d/b", "1"), dir("e"), file("e/x", "1"), file("f", "1"), symlink("l", "f"), dir("o"), file("o/x", "1")},
		{dir("d"), whiteoutOf("d/a"), file("d/c", "2"), whiteoutOf("e"), file("f", "22"), dir("o"), opaque("o"), file("o/y", "2")},
		{with(dir("d"), func(c *Change) { c.Mode = 0o2711; c.XAttrs = map[string]string{"user.k": "v"} }), file("d/a", "3"), whiteoutOf("l")},
	}
	var trees []string
	for _, changes := range layers {
		tree := t.TempDir()
		if err := Materialize(tree, seq(changes)); err != nil {
			t.Fatal(err)
		}
		trees = append(trees, tree)
	}
	merged := t.TempDir()
	if err := tree.Merge(merged, trees); err != nil {
		t.Fatal(err)
	}
	want := []string{
		". 40755 0:0 time 0.0",
		"d 42711 0:0 user.k=\"v\"",
		"d/a 100644 0:0 \"3\"",
		"d/b 100644 0:0 \"1\"",
		"d/c 100644 0:0 \"2\"",
		"f 100644 0:0 \"22\"",
		"o 40755 0:0",
		"o/y 100644 0:0 \"2\"",
	}
	if diff := gocmp.Diff(want, treeOf(t, merged)); diff != "" {
		t.Error(diff)
	}
	if a, b := inode(t, trees[0]+"/d/b"), inode(t, merged+"/d/b"); a != b {
		t.Error("a file was copied, not linked")
	}
	if err := tree.Merge(t.TempDir(), nil); err != nil {
		t.Error(err)
	}
	if err := tree.Merge(t.TempDir(), []string{"/nowhere"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a tree that is not there: %v", err)
	}
}

func inode(t *testing.T, p string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestBelow(t *testing.T) {
	t.Parallel()
	needRoot(t)
	below := listing.Empty()
	for _, changes := range [][]Change{
		{symlink("bin", "usr/bin"), with(dir("usr"), func(c *Change) { c.Mode = 0o711; c.UID = 9; c.XAttrs = map[string]string{"user.u": "1"} }), dir("usr/bin"), file("usr/bin/sh", "sh")},
	} {
		_, x := write(t, changes)
		below = below.WithLayer(x)
	}
	raw := lines(t, "bin/x = 1", "bin/.wh.sh = ", "none/.wh.x = ", "opt/new = 2")
	tree, x := apply(t, raw, ApplyOptions{Below: below})
	if want := "-bin/sh|bin/x|-none/x|opt/new"; show(x) != want {
		t.Errorf("index %s, want %s", show(x), want)
	}
	if SelfContained(x) {
		t.Error("the layer lacks directories, but counts as self-contained")
	}
	want := []string{
		". 40755 0:0 time 0.0",
		"opt 40755 0:0 time 0.0",
		"opt/new 100644 0:0 \"2\"",
		"usr 40711 9:0 user.u=\"1\"",
		"usr/bin 40755 0:0",
		"usr/bin/sh 20000 0:0 0,0",
		"usr/bin/x 100644 0:0 \"1\"",
	}
	if diff := gocmp.Diff(want, treeOf(t, tree)); diff != "" {
		t.Error(diff)
	}
}

// timed is an open file with an mtime.
type timed struct {
	io.ReadCloser
	at time.Time
}

func (f timed) ModTime() (time.Time, error) { return f.at, nil }

// TestMaterializeTimes checks that paths get their exact times, which may be later than
// those of the layer.
func TestMaterializeTimes(t *testing.T) {
	t.Parallel()
	exact := func(c Change, sec, nsec int64) Change {
		return with(c, func(c *Change) { c.Time = func() time.Time { return time.Unix(sec, nsec) } })
	}
	open := file("timed", "1")
	open.Open = func() (io.ReadCloser, error) {
		return timed{io.NopCloser(strings.NewReader("1")), time.Unix(-7, 8)}, nil
	}
	tree := t.TempDir()
	err := MaterializeOver(tree, seq([]Change{
		exact(dir("d"), 2000, 1), exact(file("d/f", "1"), 3000, 999_999_999),
		exact(with(file("link", "1"), func(c *Change) { c.Type, c.Link, c.Size, c.Open = listing.TypeSymlink, "d", 0, nil }), 1<<40, 5),
		with(file("plain", "1"), func(c *Change) { c.MTime = 5 }), open,
	}), ApplyOptions{NoChown: true})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]time.Time{
		"d": time.Unix(2000, 1), "d/f": time.Unix(3000, 999_999_999), "link": time.Unix(1<<40, 5), "plain": time.Unix(5, 0), "timed": time.Unix(-7, 8),
	} {
		fi, err := os.Lstat(filepath.Join(tree, path))
		if err != nil || !fi.ModTime().Equal(want) && path != "link" {
			t.Errorf("%s: %v, %v, want the time %v", path, fi, err, want)
		}
	}
}

func TestOverlayMarksAreNotTaken(t *testing.T) {
	t.Parallel()
	h := line("d/")
	h.PAXRecords = map[string]string{
		"SCHILY.xattr.user.overlay.redirect": "/etc", "SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.opaque": "y",
		"SCHILY.xattr.security.selinux": "label", "SCHILY.xattr.user.mine": "1",
	}
	tree, x := apply(t, rawTar(t, h), ApplyOptions{NoChown: true})
	if diff := gocmp.Diff(map[string]string{"user.mine": "1"}, x.Entries[0].XAttrs); diff != "" {
		t.Error(diff)
	}
	names, err := listXAttrs(tree + "/d")
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "security.selinux" })
	if diff := gocmp.Diff([]string{"user.mine"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestSelfContained(t *testing.T) {
	t.Parallel()
	tests := map[bool][]string{
		true:  {"", "a = 1", "a/|a/b = 1|a/c/|a/c/d = 1"},
		false: {"a/b = 1", "l -> a|l/x = 1", "a/|a/b/c = 1", "a/|a/.wh.b = ", "a/|a/.wh..wh..opq = "},
	}
	for want, all := range tests {
		for _, text := range all {
			var headers []*tar.Header
			for _, l := range strings.Split(text, "|") {
				if l != "" {
					headers = append(headers, line(l))
				}
			}
			x, err := Scan(bytes.NewReader(rawTar(t, headers...)), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if got := SelfContained(x); got != want {
				t.Errorf("%q: %v", text, got)
			}
		}
	}
}
