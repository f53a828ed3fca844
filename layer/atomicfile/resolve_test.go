package atomicfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for name, to := range map[string]string{"link": "real", "lost": "real/none", "ring": "ring", "up": filepath.Join(dir, "real")} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("real", 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		".": "", "x": "x", "link": "real", "./link/../x/y": "x/y", "link/x": "real/x", "lost": "real/none", "lost/x": "real/none/x", "up/a/b": "real/a/b",
	} {
		if got, err := Resolve(path); err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%s: %s, %v, want %s", path, got, err, want)
		}
	}
	for _, path := range []string{"", "ring", "ring/x"} {
		if got, err := Resolve(path); err == nil {
			t.Errorf("%q: %s, want an error", path, got)
		}
	}
}
