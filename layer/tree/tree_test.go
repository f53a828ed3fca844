package tree

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// build makes a tree from lines: "path = content", "path/", "path -> target",
// "-path" for a whiteout and "path!" for an opaque directory.
func build(t *testing.T, lines ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, l := range lines {
		if err := buildLine(root, l); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
	}
	return root
}

func buildLine(root, l string) error {
	if path, ok := strings.CutPrefix(l, "-"); ok {
		return MakeWhiteout(unix.AT_FDCWD, filepath.Join(root, path))
	}
	if path, ok := strings.CutSuffix(l, "!"); ok {
		dir := filepath.Join(root, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		return unix.Lsetxattr(dir, OpaqueXAttr, []byte(OpaqueValue), 0)
	}
	if path, target, ok := strings.Cut(l, " -> "); ok {
		return os.Symlink(target, filepath.Join(root, path))
	}
	if path, content, ok := strings.Cut(l, " = "); ok {
		return os.WriteFile(filepath.Join(root, path), []byte(content), 0o644)
	}
	return os.MkdirAll(filepath.Join(root, l), 0o755)
}

// show lists a tree in the form that build reads.
func show(t *testing.T, root string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		value := make([]byte, 8)
		switch n, err := unix.Lgetxattr(path, OpaqueXAttr, value); {
		case IsWhiteout(&st):
			rel = "-" + rel
		case d.IsDir() && err == nil && string(value[:n]) == OpaqueValue:
			rel += "!"
		case d.IsDir():
			rel += "/"
		case d.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(path)
			rel += " -> " + target
		default:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel += " = " + string(b)
		}
		all = append(all, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "|")
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make whiteouts")
	}
}

func TestLay(t *testing.T) {
	t.Parallel()
	needRoot(t)
	tests := []struct {
		name      string
		dir, tree []string
		want      string
	}{
		{"add", []string{"a = 1"}, []string{"b = 2", "d/", "d/e = 3"}, "a = 1|b = 2|d/|d/e = 3"},
		{"replace", []string{"a = 1"}, []string{"a = 2"}, "a = 2"},
		{"whiteout", []string{"a = 1", "d/", "d/e = 1"}, []string{"-a", "-d", "-none"}, ""},
		{"directories merge", []string{"d/", "d/a = 1"}, []string{"d/", "d/b = 2"}, "d/|d/a = 1|d/b = 2"},
		{"opaque", []string{"d/", "d/a = 1"}, []string{"d!", "d/b = 2"}, "d/|d/b = 2"},
		{"file over directory", []string{"d/", "d/a = 1"}, []string{"d = 2"}, "d = 2"},
		{"directory over file", []string{"d = 1"}, []string{"d/", "d/a = 2"}, "d/|d/a = 2"},
		{"directory over symlink", []string{"e/", "d -> e"}, []string{"d/", "d/a = 2"}, "d/|d/a = 2|e/"},
		{"symlink", []string{"a = 1"}, []string{"a -> /etc/passwd"}, "a -> /etc/passwd"},
	}
	for _, test := range tests {
		dir, tree := build(t, test.dir...), build(t, test.tree...)
		if err := Lay(dir, tree); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got := show(t, dir); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestLayKeepsAttributes(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir, tree := build(t, "d/"), build(t, "d/", "a = 1")
	if err := os.Link(tree+"/a", tree+"/d/b"); err != nil {
		t.Fatal(err)
	}
	set := func(path string, mode uint32) {
		t.Helper()
		if err := unix.Lchown(path, 12, 34); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := unix.Lsetxattr(path, "user.x", []byte("y"), 0); err != nil {
			t.Fatal(err)
		}
		if err := unix.UtimesNano(path, []unix.Timespec{{Sec: 5}, {Sec: 6, Nsec: 7}}); err != nil {
			t.Fatal(err)
		}
	}
	set(tree+"/a", 0o4750)
	set(tree+"/d", 0o2711)
	if err := unix.Lsetxattr(dir+"/d", "user.old", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if err := Lay(dir, tree); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]uint32{"/a": 0o4750, "/d": 0o2711, "/d/b": 0o4750} {
		var st unix.Stat_t
		if err := unix.Lstat(dir+path, &st); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%o %d:%d %d.%d", st.Mode&0o7777, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		if want := fmt.Sprintf("%o 12:34 6.7", mode); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
		value := make([]byte, 8)
		if n, err := unix.Lgetxattr(dir+path, "user.x", value); err != nil || string(value[:n]) != "y" {
			t.Errorf("%s: user.x is %q, %v", path, value[:max(n, 0)], err)
		}
	}
	if _, err := unix.Lgetxattr(dir+"/d", "user.old", make([]byte, 8)); err != unix.ENODATA {
		t.Errorf("the attribute user.old of the directory is still there: %v", err)
	}
	a, b := stat(t, dir+"/a"), stat(t, dir+"/d/b")
	if a.Ino != b.Ino {
		t.Error("the hard link was copied as a second file")
	}
}

func stat(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestMerge(t *testing.T) {
	t.Parallel()
	needRoot(t)
	tests := []struct {
		name       string
		trees      [][]string // lowest first
		want, part string
	}{
		{"none", nil, "", ""},
		{"one", [][]string{{"a = 1"}}, "a = 1", "a = 1"},
		{"top wins", [][]string{{"a = 1", "b = 1"}, {"a = 2"}}, "a = 2|b = 1", "a = 2|b = 1"},
		{"whiteout", [][]string{{"a = 1"}, {"-a"}}, "", "-a"},
		{"whiteout and again", [][]string{{"a = 1"}, {"-a"}, {"a = 3"}}, "a = 3", "a = 3"},
		{"opaque", [][]string{{"d/", "d/a = 1"}, {"d!", "d/b = 2"}}, "d/|d/b = 2", "d!|d/b = 2"},
		{"opaque hides whiteout", [][]string{{"d!", "d/a = 1"}, {"d/", "-d/a"}}, "d/", "d!"},
		{"directory over file", [][]string{{"d = 1"}, {"d/", "d/a = 2"}}, "d/|d/a = 2", "d!|d/a = 2"},
		{"file over directory", [][]string{{"d/", "d/a = 1"}, {"d = 2"}}, "d = 2", "d = 2"},
	}
	for _, test := range tests {
		var trees []string
		for _, lines := range test.trees {
			trees = append(trees, build(t, lines...))
		}
		whole, part := t.TempDir(), t.TempDir()
		if err := Merge(whole, trees); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if err := MergePart(part, trees); err != nil {
			t.Errorf("%s: part: %v", test.name, err)
		}
		if got := show(t, whole); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
		if got := show(t, part); got != test.part {
			t.Errorf("%s: part: got %q, want %q", test.name, got, test.part)
		}
	}
}

func TestKeepXAttr(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"user.x": true, "security.capability": true, "security.selinux": false,
		"trusted.overlay.opaque": false, OpaqueXAttr: false, "user.overlay.origin": false,
	} {
		if got := KeepXAttr(name); got != want {
			t.Errorf("KeepXAttr(%q) = %v", name, got)
		}
	}
}
