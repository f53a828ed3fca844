package input

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDirs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	var d Dirs
	first, err := d.get(dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.get(link, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := d.get(dir, []byte("x\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if first != again || first == other {
		t.Errorf("the directory is shared %t, also with another ignore file %t", first == again, first == other)
	}
	if d.released(first) || !d.released(first) || !d.released(other) {
		t.Error("a directory is released by its last user only")
	}
	if len(d.open)+len(d.uses) > 0 {
		t.Error("closed directories are remembered")
	}
	if _, err := d.get(filepath.Join(dir, "missing"), nil, nil); err == nil {
		t.Error("a missing directory was opened")
	}
}
