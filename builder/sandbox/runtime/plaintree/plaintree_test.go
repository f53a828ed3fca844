package plaintree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newTree makes a tree with some files, links and old times.
func newTree(t *testing.T) (dir string, editor *Editor) {
	t.Helper()
	dir = t.TempDir() + "/tree"
	must(t, os.MkdirAll(dir+"/etc/conf", 0o755))
	must(t, os.WriteFile(dir+"/etc/hosts", []byte("old"), 0o640))
	must(t, os.Symlink("/etc/conf", dir+"/conf"))
	old := time.Unix(1000000000, 5)
	for _, name := range []string{"etc/hosts", "etc/conf", "etc", "."} {
		must(t, os.Chtimes(dir+"/"+name, old, old))
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(root) })
	return dir, &Editor{Root: root}
}

// state describes all files of a tree, with their times.
func state(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprint(&b, strings.TrimPrefix(path, dir), " ", info.Mode())
		if e.Type() != fs.ModeSymlink {
			fmt.Fprint(&b, " ", info.ModTime().UnixNano())
		}
		if e.Type().IsRegular() {
			text, err := os.ReadFile(path)
			fmt.Fprintf(&b, " %q %v", text, err)
		}
		fmt.Fprintln(&b)
		return nil
	}))
	return b.String()
}

func TestMakeUsual(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		must(t, MakeUsual(dir))
	}
	for _, m := range Usual() {
		info, err := os.Stat(dir + "/" + m.Path)
		if err != nil || info.Mode().IsRegular() != m.File {
			t.Errorf("%s: %v, %v", m.Path, info, err)
		}
	}
	must(t, os.WriteFile(dir+"/file", nil, 0o644))
	if err := (MountPoint{"file/x", false}).Make(dir); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

func TestMissing(t *testing.T) {
	_, e := newTree(t)
	got, err := Missing(e.Root, []MountPoint{
		{"etc/hosts", true}, {"conf/new", true}, {"/data", false}, {"/data/below", false}, {"/database", false}, {"/conf", false}, {"/conf/x", true},
	})
	must(t, err)
	want := []MountPoint{{"etc/conf/new", true}, {"data", false}, {"database", false}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := Missing(e.Root, []MountPoint{{"etc/hosts/x", true}}); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

// TestAddMountPoint checks that mount points and their parents are removed, and that the
// times of directories do not change.
func TestAddMountPoint(t *testing.T) {
	dir, e := newTree(t)
	before := state(t, dir)
	must(t, e.AddMountPoint(MountPoint{"etc/new/deep/file", true}))
	must(t, e.AddMountPoint(MountPoint{"etc/new/dir", false}))
	if info, err := os.Stat(dir + "/etc/new/deep/file"); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
	if info, err := os.Stat(dir + "/etc"); err != nil || info.ModTime().UnixNano() != 1000000000e9+5 {
		t.Errorf("the time of /etc changed: %v, %v", info.ModTime(), err)
	}
	if got, want := e.Touched(), "etc\x00etc/new\x00etc/new/deep\x00etc/new\x00"; got != want {
		t.Errorf("touched %q, want %q", got, want)
	}
	must(t, e.Undo())
	if after := state(t, dir); after != before {
		t.Errorf("got\n%swant\n%s", after, before)
	}
}

// TestUsedMountPoint checks that a directory in which the command has made a file stays.
func TestUsedMountPoint(t *testing.T) {
	dir, e := newTree(t)
	must(t, e.AddMountPoint(MountPoint{"data/dir", false}))
	must(t, os.WriteFile(dir+"/data/dir/mine", nil, 0o644))
	must(t, e.Undo())
	if _, err := os.Stat(dir + "/data/dir/mine"); err != nil {
		t.Error(err)
	}
}

func TestReplace(t *testing.T) {
	dir, e := newTree(t)
	before := state(t, dir)
	aside := 0
	replace := func(target, text string) {
		t.Helper()
		aside++
		must(t, e.Replace(target, fmt.Sprint(filepath.Dir(dir), "/aside", aside), func(at int, name string) error {
			return os.WriteFile(PathOf(at)+"/"+name, []byte(text), 0o600)
		}))
	}
	replace("/etc/hosts", "first")
	replace("/etc/hosts", "second")
	replace("/conf/new", "new")
	replace("/missing/dir/file", "file")
	for name, want := range map[string]string{"etc/hosts": "second", "etc/conf/new": "new", "missing/dir/file": "file"} {
		if text, err := os.ReadFile(dir + "/" + name); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	must(t, e.Undo())
	if after := state(t, dir); after != before {
		t.Errorf("got\n%swant\n%s", after, before)
	}
}

// TestReplaceFails checks that the old entry comes back if the new one cannot be created,
// and that an error before leaves the tree as it was.
func TestReplaceFails(t *testing.T) {
	dir, e := newTree(t)
	before := state(t, dir)
	failed := errors.New("failed")
	create := func(at int, name string) error {
		must(t, os.Mkdir(PathOf(at)+"/"+name, 0o755))
		return failed
	}
	if err := e.Replace("/etc/hosts", filepath.Dir(dir)+"/aside", create); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	must(t, e.Undo())
	if err := e.Replace("/etc/hosts", t.TempDir(), create); !errors.Is(err, unix.EISDIR) {
		t.Errorf("got %v", err)
	}
	if err := e.Replace("/conf/..//../", "", create); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "the root directory cannot be a mount point") {
		t.Errorf("the root directory: %v", err)
	}
	if err := e.Replace("/etc/hosts/x", "", create); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
	must(t, e.Undo())
	if after := state(t, dir); after != before {
		t.Errorf("got\n%swant\n%s", after, before)
	}
}

func TestUndoOrder(t *testing.T) {
	e := &Editor{}
	var calls []int
	first, second := errors.New("first"), errors.New("second")
	e.OnUndo(func() error { calls = append(calls, 1); return first })
	e.OnUndo(func() error { calls = append(calls, 2); return second })
	if e.Changes() != 2 {
		t.Errorf("%d changes", e.Changes())
	}
	err := e.Undo()
	if !errors.Is(err, first) || !errors.Is(err, second) || !slices.Equal(calls, []int{2, 1}) {
		t.Errorf("got %v, %v", err, calls)
	}
	if err := e.Undo(); err != nil || e.Changes() != 0 {
		t.Errorf("the second time: %v", err)
	}
}
