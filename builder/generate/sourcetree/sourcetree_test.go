package sourcetree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTree(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.go": "a", "sub/b.go": "b", "sub/c.txt": "c", "node_modules/d.go": "d", ".hidden/e.go": "e", ".f": "f"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "secret")
	err := errors.Join(
		os.WriteFile(outside, []byte("secret"), 0o600), os.Symlink(outside, filepath.Join(dir, "out")), os.Symlink("sub/c.txt", filepath.Join(dir, "in")),
		os.Symlink("loop", filepath.Join(dir, "loop")), unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644), os.WriteFile(filepath.Join(dir, "huge"), nil, 0o644),
		os.Truncate(filepath.Join(dir, "huge"), 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if got, want := tree.Below(".", ".go"), []string{"a.go", "sub/b.go"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := tree.Files("sub/*.txt"), []string{"sub/c.txt"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if tree.Text("in") != "c" || tree.Text("out") != "" || tree.Has("out") || tree.Text("../"+filepath.Base(dir)+"/a.go") != "" {
		t.Error("links and paths are not bound to the tree")
	}
	for name, want := range map[string]string{"out": ErrLink.Error(), "loop": ErrLink.Error(), "fifo": "regular", "huge": "larger", "sub": "regular", "none": fs.ErrNotExist.Error()} {
		if _, err := tree.Read(name); err == nil || !strings.Contains(err.Error(), want) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// A deep tree and one of many files are cut, from the bottom.
func TestBounds(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, strings.Repeat("d/", maxDepth))
	if err := errors.Join(os.MkdirAll(deep, 0o755), os.WriteFile(filepath.Join(deep, "x.go"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	tree, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if !tree.Truncated || len(tree.Files("x.go")) != 0 {
		t.Errorf("truncated: %v, %q", tree.Truncated, tree.Files("x.go"))
	}
}
