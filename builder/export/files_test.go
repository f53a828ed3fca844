package export

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

func regular(path, text string, mode uint32) tarball.Change {
	return tarball.Change{
		Entry: listing.Entry{Path: path, Type: listing.TypeFile, Mode: mode, Size: int64(len(text)), MTime: early.Unix()},
		Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
	}
}

func directory(path string, mode uint32) tarball.Change {
	return tarball.Change{Entry: listing.Entry{Path: path, Type: listing.TypeDir, Mode: mode, MTime: early.Unix()}}
}

func link(path string, kind listing.Type, to string) tarball.Change {
	return tarball.Change{Entry: listing.Entry{Path: path, Type: kind, Mode: 0o777, Link: to, MTime: early.Unix()}}
}

// withFiles returns an image for linux/arch with one layer of files.
func withFiles(t *testing.T, arch string, changes ...tarball.Change) *Image {
	t.Helper()
	m := snapshots(t, openStore(t))
	img := &Image{Files: m.Empty().Add(snapshot.NewLayer{Changes: snapshot.DiffChanges(changes), Exported: true})}
	img.Config.OS, img.Config.Architecture = "linux", arch
	img.Platform = layer.Platform{OS: "linux", Architecture: arch}.Normalized()
	return img
}

// someFiles has each type of file.
func someFiles() []tarball.Change {
	device := tarball.Change{Entry: listing.Entry{Path: "dev/null", Type: listing.TypeChar, Mode: 0o666, Major: 1, Minor: 3}}
	return []tarball.Change{
		directory("dev", 0o755), device,
		directory("etc", 0o750), regular("etc/conf", "a=b\n", 0o640), link("etc/hard", listing.TypeHardlink, "etc/conf"),
		link("etc/link", listing.TypeSymlink, "/etc/conf"), regular("run", "#!", 0o755),
	}
}

// entries lists a tar: each name with the type, and the content or target.
func entries(t *testing.T, r io.Reader) []string {
	t.Helper()
	var all []string
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimSpace(string(h.Typeflag)+" "+h.Name+" "+h.Linkname+string(text)))
	}
}

// TestTar checks the tar of one image, and that of several, where each image has a
// directory and hard links stay in it.
func TestTar(t *testing.T) {
	t.Parallel()
	amd := withFiles(t, "amd64", someFiles()...)
	arm := withFiles(t, "arm", regular("only", "arm", 0o644))
	arm.Config.Variant = "v7"
	var one bytes.Buffer
	if err := writeTars(t.Context(), []*Image{amd}, Output{}, &one); err != nil {
		t.Fatal(err)
	}
	wantList(t, "one image", entries(t, &one), "5 dev/", "3 dev/null", "5 etc/", "0 etc/conf a=b", "1 etc/hard etc/conf", "2 etc/link /etc/conf", "0 run #!")

	var split bytes.Buffer
	if err := writeTars(t.Context(), []*Image{arm}, Output{Split: true}, &split); err != nil {
		t.Fatal(err)
	}
	wantList(t, "split", entries(t, &split), "5 linux_arm_v7/", "0 linux_arm_v7/only arm")

	var both bytes.Buffer
	if err := writeTars(t.Context(), []*Image{arm, amd}, Output{}, &both); err != nil {
		t.Fatal(err)
	}
	wantList(t, "both", entries(t, &both),
		"5 linux_amd64/", "5 linux_amd64/dev/", "3 linux_amd64/dev/null", "5 linux_amd64/etc/", "0 linux_amd64/etc/conf a=b",
		"1 linux_amd64/etc/hard linux_amd64/etc/conf", "2 linux_amd64/etc/link /etc/conf", "0 linux_amd64/run #!",
		"5 linux_arm_v7/", "0 linux_arm_v7/only arm")
}

// TestSource checks the files of one directory, which symbolic links of the image may name.
func TestSource(t *testing.T) {
	t.Parallel()
	files := slices.Insert(someFiles(), 2, tarball.Change{Entry: listing.Entry{Path: "dir", Type: listing.TypeSymlink, Link: "/dev/../../etc"}})
	images := []*Image{withFiles(t, "amd64", files...)}
	for _, source := range []string{"etc", "/etc/", "dir", "../dir/."} {
		var b bytes.Buffer
		if err := writeTars(t.Context(), images, Output{Source: source}, &b); err != nil {
			t.Fatal(err)
		}
		wantList(t, source, entries(t, &b), "0 conf a=b", "1 hard conf", "2 link /etc/conf")
		b.Reset()
		if err := writeTars(t.Context(), images, Output{Source: source, Split: true}, &b); err != nil {
			t.Fatal(err)
		}
		wantList(t, source+" split", entries(t, &b), "5 linux_amd64/", "0 linux_amd64/conf a=b", "1 linux_amd64/hard linux_amd64/conf", "2 linux_amd64/link /etc/conf")
		dest := t.TempDir()
		if err := os.WriteFile(filepath.Join(dest, "stale"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := writeDirs(t.Context(), images, Output{Dest: dest, Source: source, Delete: true}, t.Logf); err != nil {
			t.Fatal(err)
		}
		left, err := filepath.Glob(dest + "/*")
		if err != nil || len(left) != 3 {
			t.Errorf("%s: %q, %v", source, left, err)
		}
	}
	for source, want := range map[string]string{"nope": "src=nope: no such file or directory", "run": "src=run: not a directory"} {
		dest := filepath.Join(t.TempDir(), "new")
		wantError(t, writeDirs(t.Context(), images, Output{Dest: dest, Source: source}, t.Logf), want)
		if _, err := os.Stat(dest); err == nil {
			t.Errorf("src=%s: there is a directory", source)
		}
	}
}

// TestLocal checks the files, modes and times of an output to a directory.
func TestLocal(t *testing.T) {
	t.Parallel()
	dest := filepath.Join(t.TempDir(), "new", "out")
	img := withFiles(t, "amd64", someFiles()...)
	if err := writeDirs(t.Context(), []*Image{img}, Output{Dest: dest}, t.Logf); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"etc": "drwxr-x---", "etc/conf": "-rw-r-----", "etc/hard": "-rw-r-----", "run": "-rwxr-xr-x", "etc/link": "L", "dev": "drwxr-xr-x",
	} {
		fi, err := os.Lstat(filepath.Join(dest, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if want == "L" {
			if target, err := os.Readlink(filepath.Join(dest, name)); err != nil || target != "/etc/conf" {
				t.Errorf("%s: link to %q, %v", name, target, err)
			}
			continue
		}
		if fi.Mode().String() != want || name != "dev" && !fi.ModTime().Equal(early) {
			t.Errorf("%s: %s of %v, want %s", name, fi.Mode(), fi.ModTime().UTC(), want)
		}
	}
	wantText(t, filepath.Join(dest, "etc/hard"), "a=b\n")
	a, errA := os.Stat(filepath.Join(dest, "etc/conf"))
	b, errB := os.Stat(filepath.Join(dest, "etc/hard"))
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		t.Error("the hard link is a copy")
	}
	if _, err := os.Lstat(filepath.Join(dest, "dev/null")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the device: %v, want none", err)
	}
}

// TestLocalAttributes checks that all files belong to the user of the process, as with
// BuildKit, and that FIFOs and attributes of users are written.
func TestLocalAttributes(t *testing.T) {
	t.Parallel()
	dest := t.TempDir()
	theirs := func(c tarball.Change) tarball.Change {
		c.UID, c.GID, c.XAttrs = 1234, 5678, map[string]string{"user.a": "b"}
		return c
	}
	img := withFiles(t, "amd64", theirs(directory("dir", 0o700)), theirs(regular("dir/setuid", "x", 0o4555)),
		tarball.Change{Entry: listing.Entry{Path: "fifo", Type: listing.TypeFifo, Mode: 0o622, UID: 1234, GID: 5678, MTime: early.Unix()}},
		tarball.Change{Entry: listing.Entry{Path: "fifo2", Type: listing.TypeFifo, Mode: 0o600}},
		tarball.Change{Entry: listing.Entry{Path: "link", Type: listing.TypeSymlink, Link: "x", UID: 1234, GID: 5678}},
		tarball.Change{Entry: listing.Entry{Path: "null", Type: listing.TypeChar, Major: 1, Minor: 3}})
	if err := os.Chmod(dest, 0o2755); err != nil { // new files get the group of such a directory
		t.Fatal(err)
	}
	warnings := ""
	warn := func(format string, args ...any) { warnings += fmt.Sprintf(format, args...) }
	if err := writeDirs(t.Context(), []*Image{img}, Output{Dest: dest}, warn); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]string{
		"dir": "drwx------", "dir/setuid": "ur-xr-xr-x", "fifo": "prw--w--w-", "fifo2": "prw-------", "link": "Lrwxrwxrwx",
	} {
		fi, err := os.Lstat(filepath.Join(dest, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if st := fi.Sys().(*syscall.Stat_t); fi.Mode().String() != mode || int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() {
			t.Errorf("%s: %s of %d:%d, want %s of %d:%d", name, fi.Mode(), st.Uid, st.Gid, mode, os.Geteuid(), os.Getegid())
		}
	}
	if want := "/null is a device, which is not written to a directory: use type=tar for it"; warnings != want {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	if err := unix.Setxattr(dest, "user.test", nil, 0); err != nil {
		t.Logf("%s has no user attributes: %v", dest, err)
		return
	}
	for _, name := range []string{"dir", "dir/setuid"} {
		value := make([]byte, 10)
		n, err := unix.Getxattr(filepath.Join(dest, name), "user.a", value)
		if err != nil || string(value[:n]) != "b" {
			t.Errorf("%s: attribute %q, %v", name, value[:max(n, 0)], err)
		}
	}
}

func wantText(t *testing.T, path, want string) {
	t.Helper()
	if text, err := os.ReadFile(path); err != nil || string(text) != want {
		t.Errorf("%s: %q, %v, want %q", filepath.Base(path), text, err, want)
	}
}

// TestLocalSplit checks the directories of several platforms, and that of one with
// platform-split.
func TestLocalSplit(t *testing.T) {
	t.Parallel()
	amd, arm := withFiles(t, "amd64", regular("f", "amd", 0o644)), withFiles(t, "arm64", regular("f", "arm", 0o644))
	for name, test := range map[string]struct {
		images []*Image
		split  bool
		want   map[string]string
	}{
		"one":        {[]*Image{amd}, false, map[string]string{"f": "amd"}},
		"one, split": {[]*Image{amd}, true, map[string]string{"linux_amd64/f": "amd"}},
		"two":        {[]*Image{amd, arm}, false, map[string]string{"linux_amd64/f": "amd", "linux_arm64/f": "arm"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dest := t.TempDir()
			if err := writeDirs(t.Context(), test.images, Output{Dest: dest, Split: test.split}, t.Logf); err != nil {
				t.Fatal(err)
			}
			for file, text := range test.want {
				wantText(t, filepath.Join(dest, file), text)
			}
			found, err := fs.Glob(os.DirFS(dest), "*")
			if err != nil || len(found) != len(test.want) {
				t.Errorf("files %q, %v", found, err)
			}
		})
	}
}

// TestLocalReplaces checks the treatment of files that are in the directory already: one
// of the same path is replaced, whatever its type, and others stay. A link in the
// directory does not lead out of it.
func TestLocalReplaces(t *testing.T) {
	t.Parallel()
	dest, outside := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dest, "file/below"), 0o755),
		os.WriteFile(filepath.Join(dest, "dir"), []byte("old"), 0o600),
		os.MkdirAll(filepath.Join(dest, "kept"), 0o700),
		os.WriteFile(filepath.Join(dest, "kept/old"), []byte("old"), 0o600),
		os.WriteFile(filepath.Join(outside, "text"), []byte("outside"), 0o600),
		os.Symlink(filepath.Join(outside, "text"), filepath.Join(dest, "link")),
		os.Symlink(outside, filepath.Join(dest, "linked")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	img := withFiles(t, "amd64", directory("dir", 0o755), regular("dir/new", "new", 0o644), regular("file", "new", 0o644),
		directory("kept", 0o755), regular("kept/new", "new", 0o644), regular("link", "new", 0o644),
		directory("linked", 0o755), regular("linked/text", "new", 0o644))
	if err := writeDirs(t.Context(), []*Image{img}, Output{Dest: dest}, t.Logf); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"file": "new", "dir/new": "new", "kept/old": "old", "kept/new": "new", "link": "new", "linked/text": "new"} {
		wantText(t, filepath.Join(dest, name), want)
	}
	wantText(t, filepath.Join(outside, "text"), "outside")
	if fi, err := os.Stat(filepath.Join(dest, "kept")); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("kept: %v, %v", fi, err)
	}
}

// TestLocalDelete checks that mode=delete removes all other files from the directory, and
// nothing outside of it.
func TestLocalDelete(t *testing.T) {
	t.Parallel()
	amd := withFiles(t, "amd64", regular("file", "new", 0o644), directory("kept", 0o755), regular("kept/new", "new", 0o644))
	arm := withFiles(t, "arm64", regular("file", "new", 0o644))
	for name, test := range map[string]struct {
		images []*Image
		split  bool
		want   []string
	}{
		"one":        {[]*Image{amd}, false, []string{".", "file", "kept", "kept/new"}},
		"one, split": {[]*Image{amd}, true, []string{".", "linux_amd64", "linux_amd64/file", "linux_amd64/kept", "linux_amd64/kept/new"}},
		"two":        {[]*Image{arm, amd}, false, []string{".", "linux_amd64", "linux_amd64/file", "linux_amd64/kept", "linux_amd64/kept/new", "linux_arm64", "linux_arm64/file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dest, outside := t.TempDir(), t.TempDir()
			for _, err := range []error{
				os.WriteFile(filepath.Join(outside, "text"), []byte("outside"), 0o600),
				os.MkdirAll(filepath.Join(dest, "kept/deep/down"), 0o755),
				os.MkdirAll(filepath.Join(dest, "linux_amd64/stale"), 0o755),
				os.WriteFile(filepath.Join(dest, "kept/stale"), nil, 0o600),
				os.Symlink(outside, filepath.Join(dest, "linked")),
				os.Symlink(outside, filepath.Join(dest, "kept/linked")),
				os.Symlink(outside, filepath.Join(dest, "linux_arm64")),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := writeDirs(t.Context(), test.images, Output{Dest: dest, Split: test.split, Delete: true}, t.Logf); err != nil {
				t.Fatal(err)
			}
			var found []string
			err := fs.WalkDir(os.DirFS(dest), ".", func(path string, _ fs.DirEntry, err error) error {
				found = append(found, path)
				return err
			})
			if err != nil || !slices.Equal(found, test.want) {
				t.Errorf("%q, %v, want %q", found, err, test.want)
			}
			wantText(t, filepath.Join(outside, "text"), "outside")
			dir := filepath.Join(dest, filepath.Dir(test.want[slices.IndexFunc(test.want, func(s string) bool { return filepath.Base(s) == "new" })]))
			if fi, err := os.Stat(dir); err != nil || !fi.ModTime().Equal(early) {
				t.Errorf("%s: %v, want the image's time", dir, err)
			}
		})
	}
}

// TestLocalErrors checks that an error names the file.
func TestLocalErrors(t *testing.T) {
	t.Parallel()
	dest := t.TempDir()
	file := filepath.Join(dest, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	img := withFiles(t, "amd64", regular("f", "text", 0o644))
	wantError(t, writeDirs(t.Context(), []*Image{img}, Output{Dest: file}, t.Logf), file, "not a directory")
	root, err := os.OpenRoot(dest)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	h := &tar.Header{Name: "../out", Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}
	if err := writeEntry(root, h, strings.NewReader("")); err == nil {
		t.Error("an entry outside of the directory was written")
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(dest), "out")); err == nil {
		t.Error("there is a file outside of the directory")
	}
}

// TestWriteFileComplete checks that an archive replaces a file only when it is complete, that
// "-" is standard output, and that a device is written to.
func TestWriteFileComplete(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a.tar")
	text := func(s string, err error) func(io.Writer) error {
		return func(w io.Writer) error {
			_, werr := io.WriteString(w, s)
			return errors.Join(werr, err)
		}
	}
	if err := WriteFile(path, nil, text("first", nil)); err != nil {
		t.Fatal(err)
	}
	failed := errors.New("failed")
	if err := WriteFile(path, nil, text("second", failed)); !errors.Is(err, failed) {
		t.Errorf("error %v, want that of the writer", err)
	}
	wantText(t, path, "first")
	names, err := fs.Glob(os.DirFS(dir), "*")
	if err != nil || !slices.Equal(names, []string{"a.tar"}) {
		t.Errorf("files %q, %v", names, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o644 {
		t.Errorf("%v, %v", fi, err)
	}
	var out strings.Builder
	if err := WriteFile("-", &out, text("out", nil)); err != nil || out.String() != "out" {
		t.Errorf("standard output %q, %v", out.String(), err)
	}
	if err := WriteFile(os.DevNull, nil, text("gone", nil)); err != nil {
		t.Error(err)
	}
	if fi, err := os.Stat(os.DevNull); err != nil || fi.Mode().IsRegular() {
		t.Errorf("the device: %v, %v", fi, err)
	}
	if err := WriteFile(os.DevNull, nil, text("", failed)); !errors.Is(err, failed) {
		t.Errorf("error %v, want that of the writer", err)
	}
	wantError(t, WriteFile(dir, nil, text("", nil)), dir)
	wantError(t, WriteFile(filepath.Join(dir, "none", "a"), nil, text("", nil)), "none", "no such file")
}
