package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Both ways of writing a file have the same result.
func both(t *testing.T, f func(t *testing.T, make func(string, fs.FileMode, func(*os.File) error) error)) {
	t.Run("unnamed", func(t *testing.T) { f(t, File) })
	t.Run("named", func(t *testing.T) {
		f(t, func(path string, mode fs.FileMode, write func(*os.File) error) error {
			return replace(path, mode, write, named)
		})
	})
}

func hello(f *os.File) error {
	_, err := f.WriteString("hello")
	return err
}

func TestFile(t *testing.T) {
	both(t, func(t *testing.T, make func(string, fs.FileMode, func(*os.File) error) error) {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		for range 2 { // made, then replaced
			if err := make(path, 0o640, hello); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(path)
			if err != nil || string(text) != "hello" {
				t.Errorf("%q, %v", text, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
		}
		only(t, dir, "file")
	})
}

func TestFailure(t *testing.T) {
	both(t, func(t *testing.T, make func(string, fs.FileMode, func(*os.File) error) error) {
		dir := t.TempDir()
		broken := errors.New("broken")
		path := filepath.Join(dir, "file")
		if err := make(path, 0o644, func(*os.File) error { return broken }); !errors.Is(err, broken) {
			t.Error(err)
		}
		only(t, dir)
		missing := filepath.Join(dir, "missing", "file")
		var at *fs.PathError
		if err := make(missing, 0o644, hello); !errors.As(err, &at) || at.Path != missing || !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		folder := filepath.Join(dir, "folder")
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := make(folder, 0o644, hello); !errors.As(err, &at) || at.Path != folder {
			t.Error(err)
		}
		only(t, dir, "folder")
	})
}

// An unfinished file is not visible.
func TestUnseen(t *testing.T) {
	dir := t.TempDir()
	f, err := unnamed(filepath.Join(dir, "file"))
	if err != nil {
		t.Skip("the file system has no files without a name: ", err)
	}
	f.Close()
	err = File(filepath.Join(dir, "file"), 0o644, func(f *os.File) error {
		only(t, dir)
		return hello(f)
	})
	if err != nil {
		t.Error(err)
	}
}

func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(want) {
		t.Errorf("there are %v, %v, want %q", entries, err, want)
	}
}
