package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/listing"
)

func TestWalkOrder(t *testing.T) {
	root := tree{
		"a/c": text("1"), "a.b": text("2"), "a-/x": text("3"), "a0": text("4"), "a-.d/y": text("5"), "a/": folder(0o755),
		"a/c.d/e": text("6"), "a/c-": text("7"), "\xff\xfe": text("8"), "new\nline/z": text("9"), "ü": text("10"),
		" ": text("11"), "empty": folder(0o700), "z/z/z/z": text("12"),
	}.make(t)
	got := walk(t, open(t, root, "", nil), ".", WalkOptions{})
	if !slices.IsSorted(got[1:]) || got[0] != "." {
		t.Errorf("not in bytewise order: %q", got)
	}
	want := []string{" ", "a", "a-", "a-.d", "a-.d/y", "a-/x", "a.b", "a/c", "a/c-", "a/c.d", "a/c.d/e", "a0", "empty",
		"new\nline", "new\nline/z", "z", "z/z", "z/z/z", "z/z/z/z", "ü", "\xff\xfe"}
	if diff := cmp.Diff(want, got[1:]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a/c.d", "a/c.d/e"}, walk(t, open(t, root, "", nil), "/x/../a/c.d/", WalkOptions{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a.b"}, walk(t, open(t, root, "", nil), "a.b", WalkOptions{})); diff != "" {
		t.Error(diff)
	}
}

func TestWalkAttributes(t *testing.T) {
	root := tree{
		"f": file("hello", 0o4751), "d": folder(0o2775), "l": link("../../etc/passwd"), "p": fifo(), "s": socket(),
		"h1": hard("f"), "dangling": link("nowhere"), "empty": file("", 0o600),
	}.make(t)
	when := time.Unix(1_600_000_000, 999_999_999)
	must(t, os.Chtimes(filepath.Join(root, "f"), when, when))
	must(t, unix.Setxattr(filepath.Join(root, "f"), "user.note", []byte("a\x00b"), 0))
	must(t, unix.Setxattr(filepath.Join(root, "d"), "user.overlay.opaque", []byte("y"), 0))
	must(t, unix.Setxattr(filepath.Join(root, "d"), "user.dir", nil, 0))
	must(t, unix.Setxattr(filepath.Join(root, "f"), "user.xdg.origin.url", []byte("https://example.com/f?token=x"), 0))
	if os.Getuid() == 0 {
		must(t, unix.Setxattr(filepath.Join(root, "f"), "trusted.secret", []byte("x"), 0))
	}
	for _, modern := range []bool{true, false} {
		d := open(t, root, "", nil)
		d.xattr = d.xattr && modern
		all := scan(t, d)
		checkAttributes(t, all)
		if _, ok := all["s"]; ok {
			t.Error("the socket is part of the context")
		}
	}
}

func checkAttributes(t *testing.T, all map[string]File) {
	t.Helper()
	f, d := all["f"], all["d"]
	if f.Type != listing.TypeFile || f.Mode != 0o4751 || f.Size != 5 || f.MTime != 1_600_000_000 || f.UID != 0 || f.GID != 0 {
		t.Errorf("f: %+v", f.Entry)
	}
	if want := "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; string(f.Digest) != want {
		t.Errorf("f: digest %s", f.Digest)
	}
	if diff := cmp.Diff(map[string]string{"user.note": "a\x00b"}, f.XAttrs); diff != "" {
		t.Error(diff)
	}
	if f.Ident == (Ident{}) || f.Ident != all["h1"].Ident || all["empty"].Ident != (Ident{}) || d.Ident != (Ident{}) {
		t.Errorf("idents: %v %v %v %v", f.Ident, all["h1"].Ident, all["empty"].Ident, d.Ident)
	}
	if d.Type != listing.TypeDir || d.Mode != 0o2775 || d.Size != 0 {
		t.Errorf("d: %+v", d.Entry)
	}
	if diff := cmp.Diff(map[string]string{"user.dir": ""}, d.XAttrs); diff != "" {
		t.Error(diff)
	}
	if l := all["l"]; l.Type != listing.TypeSymlink || l.Link != "../../etc/passwd" || l.Size != 0 {
		t.Errorf("l: %+v", l.Entry)
	}
	if all["dangling"].Link != "nowhere" || all["p"].Type != listing.TypeFifo {
		t.Errorf("dangling: %+v, p: %+v", all["dangling"].Entry, all["p"].Entry)
	}
}

func TestWalkOptions(t *testing.T) {
	root := tree{
		"src/a.go": text(""), "src/a_test.go": text(""), "src/sub/b.go": text(""), "src/sub/b.md": text(""),
		"src/.git/config": text(""), "src/doc/x.md": text(""), "src/doc/keep/y.md": text(""),
	}.make(t)
	for _, c := range []struct {
		name             string
		include, exclude []string
		want             string
	}{
		{"all", nil, nil, ". .git .git/config a.go a_test.go doc doc/keep doc/keep/y.md doc/x.md sub sub/b.go sub/b.md"},
		{"exclude", nil, []string{"**/*_test.go", "doc", ".git"}, ". a.go sub sub/b.go sub/b.md"},
		{"take back", nil, []string{"*", "!doc/keep"}, ". doc doc/keep doc/keep/y.md"},
		{"include", []string{"**/*.md"}, nil, ". doc doc/keep doc/keep/y.md doc/x.md sub sub/b.md"},
		{"include dir", []string{"doc"}, nil, ". doc doc/keep doc/keep/y.md doc/x.md"},
		{"include pruned", []string{"sub/*.go"}, nil, ". sub sub/b.go"},
		{"both", []string{"**/*.md"}, []string{"doc/*"}, ". sub sub/b.md"},
		{"nothing", []string{"none"}, nil, "."},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, p := range walk(t, open(t, root, "", nil), "src", WalkOptions{Include: c.include, Exclude: c.exclude}) {
				got = append(got, clean(strings.TrimPrefix(p, "src")))
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
	err := open(t, root, "", nil).Walk(context.Background(), ".", WalkOptions{Exclude: []string{"["}}, func(File) error { return nil })
	if err == nil || !strings.Contains(err.Error(), `exclude: pattern "["`) {
		t.Errorf("bad pattern: %v", err)
	}
}

func TestWalkErrors(t *testing.T) {
	root := tree{"a/b": text("x")}.make(t)
	d := open(t, root, "a/ignored", nil)
	stop := errors.New("stop")
	if err := d.Walk(context.Background(), ".", WalkOptions{}, func(File) error { return stop }); err != stop {
		t.Errorf("error of f: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.Walk(ctx, ".", WalkOptions{}, func(File) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if err := d.Scan(ctx, ".", WalkOptions{}, func([]File) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled scan: %v", err)
	}
	if err := d.Walk(context.Background(), "a/none", WalkOptions{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestDeepTree(t *testing.T) {
	const depth = 700
	name := strings.Repeat("d", 20)
	root := t.TempDir()
	fd, err := unix.Open(root, unix.O_DIRECTORY, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, name, 0o755))
		must(t, unix.Mkdirat(fd, "z", 0o755)) // after the deep one, so its parent must be opened again
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	bottom, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o644)
	must(t, err)
	unix.Write(bottom, []byte("deep"))
	unix.Close(bottom)
	unix.Close(fd)

	all := scan(t, open(t, root, "", nil))
	path := strings.Repeat(name+"/", depth) + "file"
	if len(path) < 3*unix.PathMax || len(all) != 2*depth+2 {
		t.Fatalf("%d entries, path of %d bytes", len(all), len(path))
	}
	if f := all[path]; f.Size != 4 || f.Digest == "" {
		t.Errorf("the deepest file: %.100v", f)
	}
	if n := openFDs(t); n > 60 {
		t.Errorf("%d descriptors are open", n)
	}
}

func TestTooDeepTree(t *testing.T) {
	root := t.TempDir()
	name := strings.Repeat("n", 255)
	fd, err := unix.Open(root, unix.O_DIRECTORY, 0)
	must(t, err)
	for range maxPath/256 + 2 {
		must(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	err = open(t, root, "", nil).Scan(context.Background(), ".", WalkOptions{}, func([]File) {})
	if !errors.Is(err, unix.ENAMETOOLONG) || len(err.Error()) > 400 {
		t.Errorf("got %v", err)
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

func TestManyFiles(t *testing.T) {
	tr := tree{}
	for i := range 3000 {
		tr[fmt.Sprintf("d%d/f%d", i%7, i)] = text(strings.Repeat("x", i))
	}
	before := openFDs(t)
	all := scan(t, open(t, tr.make(t), "", nil))
	if len(all) != 3008 {
		t.Errorf("%d entries", len(all))
	}
	if after := openFDs(t); after > before+1 {
		t.Errorf("descriptors: %d before, %d after", before, after)
	}
}

// TestWalkEndsEarly stops walks at every entry, with and without helpers.
func TestWalkEndsEarly(t *testing.T) {
	tr := tree{}
	for i := range 60 {
		tr[fmt.Sprintf("a%d/b/c/d", i)] = text("")
		tr[fmt.Sprintf("a%d/b.c/e/f", i%9)] = text("")
	}
	root := tr.make(t)
	d := open(t, root, "**/e\n!a3/**/f", nil)
	all := walk(t, d, ".", WalkOptions{})
	before, routines := openFDs(t), runtime.NumGoroutine()
	stop := errors.New("stop")
	for _, procs := range []int{1, 4} {
		old := runtime.GOMAXPROCS(procs)
		for n := range all {
			i := 0
			err := d.Walk(context.Background(), ".", WalkOptions{}, func(f File) error {
				if f.Path != all[i] {
					t.Fatalf("entry %d is %q, want %q", i, f.Path, all[i])
				}
				if i++; i > n {
					return stop
				}
				return nil
			})
			if err != stop {
				t.Fatalf("stopped after %d: %v", n, err)
			}
		}
		runtime.GOMAXPROCS(old)
	}
	if after := openFDs(t); after != before || runtime.NumGoroutine() != routines {
		t.Errorf("descriptors: %d before, %d after; goroutines: %d and %d", before, after, routines, runtime.NumGoroutine())
	}
}

// asNobody runs f on a thread with the file permissions of an ordinary user.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, err := unix.SetfsuidRetUid(65534); err != nil {
		t.Fatal(err)
	}
	defer unix.Setfsuid(0)
	f()
}

func TestUnreadable(t *testing.T) {
	root := tree{"ok": text("1"), "secret": file("2", 0), "dir/x": text("3"), "dir": folder(0), "out/dir/x": text("4"), "out/dir": folder(0)}.make(t)
	must(t, os.Chmod(filepath.Dir(root), 0o755))
	must(t, os.Chmod(root, 0o755))
	defer os.Chmod(filepath.Join(root, "dir"), 0o755)
	asNobody(t, func() {
		// Only this thread has another user, so there must be no helpers.
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		d := open(t, root, "dir\nout/dir\n!**/y", nil)
		f, err := d.Lstat("secret")
		must(t, err)
		_, err = d.Digest(f)
		var pe *fs.PathError
		if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &pe) || pe.Path != "secret" {
			t.Errorf("digest: %v", err)
		}
		if _, err := f.Open(); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("open: %v", err)
		}
		if diff := cmp.Diff([]string{".", "ok", "out", "secret"}, walk(t, d, ".", WalkOptions{})); diff != "" {
			t.Error(diff)
		}
		err = open(t, root, "", nil).Walk(context.Background(), ".", WalkOptions{}, func(File) error { return nil })
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "open dir:") {
			t.Errorf("walk: %v", err)
		}
	})
}

func TestKeepXAttr(t *testing.T) {
	for name, want := range map[string]bool{
		"user.note": true, "user.pax.flags": true, "security.capability": true, "user.creators": true, "user.xdg": true,
		"user.xdg.origin.url": false, "user.xdg.referrer.url": false, "user.creator": false, "user.mime_type": false,
		"user.DosStream.Zone.Identifier:$DATA": false, "user.com.apple.quarantine": false, "user.overlay.opaque": false,
		"user.containers.override_stat": false, "user.rootlesscontainers": false,
		"security.selinux": false, "system.posix_acl_access": false, "trusted.overlay.opaque": false, "user": false,
	} {
		if got := KeepXAttr(name); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}
