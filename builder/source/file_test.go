package source

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
)

func TestOpen(t *testing.T) {
	want := strings.Repeat("0123456789", 10_000)
	d := open(t, tree{"d/f": text(want)}.make(t), "", nil)
	f, err := d.Lstat("d/f")
	must(t, err)
	f.Path = "elsewhere" // as COPY does; the file stays the same
	r, err := f.Open()
	must(t, err)
	must(t, iotest.TestReader(r, []byte(want)))
	must(t, r.Close())
	if err := r.Close(); err == nil {
		t.Error("second Close succeeded")
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, errClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if got, err := d.Digest(f); err != nil || got != layer.FromBytes([]byte(want)) {
		t.Errorf("digest %s, %v", got, err)
	}
	if _, err := (File{}).Open(); err == nil {
		t.Error("the zero File opens")
	}
	root, err := d.Lstat(".")
	must(t, err)
	if _, err := root.Open(); err == nil {
		t.Error("a directory opens")
	}
}

// changes returns changes of a file between listing and reading.
func changes() map[string]func(t *testing.T, path string) error {
	rewrite := func(text string) func(*testing.T, string) error {
		return func(t *testing.T, path string) error { return os.WriteFile(path, []byte(text), 0o644) }
	}
	replace := func(mode uint32) func(*testing.T, string) error {
		return func(t *testing.T, path string) error {
			must(t, os.Remove(path))
			return unix.Mknod(path, mode|0o644, 0)
		}
	}
	return map[string]func(t *testing.T, path string) error{
		"longer":  rewrite("much longer than before"),
		"shorter": rewrite("s"),
		"same size, times set back": func(t *testing.T, path string) error {
			st, err := os.Stat(path)
			must(t, err)
			must(t, os.WriteFile(path, []byte("BEFORE"), 0o644))
			return os.Chtimes(path, st.ModTime(), st.ModTime())
		},
		"another file": func(t *testing.T, path string) error {
			must(t, os.WriteFile(path+".new", []byte("before"), 0o644))
			return os.Rename(path+".new", path)
		},
		"fifo":   replace(unix.S_IFIFO),
		"socket": replace(unix.S_IFSOCK),
		"symlink": func(t *testing.T, path string) error {
			must(t, os.Rename(path, path+".old"))
			return os.Symlink("f.old", path)
		},
		"directory": func(t *testing.T, path string) error {
			must(t, os.Remove(path))
			return os.Mkdir(path, 0o755)
		},
		"gone": func(t *testing.T, path string) error { return os.Remove(path) },
		"parent is a symlink": func(t *testing.T, path string) error {
			dir := filepath.Dir(path)
			must(t, os.Rename(dir, dir+".old"))
			return os.Symlink("d.old", dir)
		},
	}
}

func TestChangedBeforeRead(t *testing.T) {
	for name, change := range changes() {
		t.Run(name, func(t *testing.T) {
			root := tree{"d/f": text("before")}.make(t)
			d := open(t, root, "", nil)
			f, err := d.Lstat("d/f")
			must(t, err)
			must(t, change(t, filepath.Join(root, "d/f")))
			if _, err := f.Open(); err == nil || !strings.Contains(err.Error(), "d/f: ") {
				t.Errorf("open: %v", err)
			}
			_, err = d.Digest(f)
			if err == nil || !strings.Contains(err.Error(), "d/f: ") {
				t.Errorf("digest: %v", err)
			}
			if name == "gone" && !errors.Is(err, fs.ErrNotExist) || strings.Contains(name, "er") && name != "another file" && !errors.Is(err, errChanged) && !strings.Contains(name, "symlink") {
				t.Errorf("digest: %v", err)
			}
			if err := d.Hash(context.Background(), []File{f}); err == nil {
				t.Error("hash succeeded")
			}
		})
	}
}

func TestChangedWhileRead(t *testing.T) {
	text1 := strings.Repeat("x", 100_000)
	for name, change := range map[string]func(path string) error{
		"appended":  func(path string) error { return appendTo(path, "more") },
		"truncated": func(path string) error { return os.Truncate(path, 50_000) },
		"touched":   func(path string) error { return os.WriteFile(path, []byte(text1), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			root := tree{"f": text(text1)}.make(t)
			f, err := open(t, root, "", nil).Lstat("f")
			must(t, err)
			r, err := f.Open()
			must(t, err)
			defer r.Close()
			if _, err := io.ReadFull(r, make([]byte, 60_000)); err != nil {
				t.Fatal(err)
			}
			must(t, change(filepath.Join(root, "f")))
			if _, err = io.ReadAll(r); !errors.Is(err, errChanged) || err.Error() != "read f: changed while it was read" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func appendTo(path, s string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(s)
	return err
}

// TestOpenSteps is TestChangedBeforeRead without openat2.
func TestOpenSteps(t *testing.T) {
	root := tree{"a/b/f": text("1"), "l": link("a"), "a/l": link("b/f"), "out": link("/etc")}.make(t)
	d := open(t, root, "", nil)
	before := openFDs(t)
	for path, want := range map[string]error{
		"a/b/f": nil, "a": nil, "a/b": nil, ".": nil,
		"a/none": unix.ENOENT, "l/b/f": unix.ENOTDIR, "a/l": unix.ELOOP, "a/b/f/x": unix.ENOTDIR, "out/passwd": unix.ENOTDIR,
	} {
		fd, err := openSteps(d.root, path, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != want {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		if err == nil {
			unix.Close(fd)
		}
		fd, err = openBeneath(d.root, path, unix.O_RDONLY|unix.O_NONBLOCK)
		if (err == nil) != (want == nil) {
			t.Errorf("%s: openat2: %v, want %v", path, err, want)
		}
		if err == nil {
			unix.Close(fd)
		}
	}
	if fd, err := openBeneath(d.root, "../x", unix.O_RDONLY); err == nil {
		unix.Close(fd)
		t.Error("left the root")
	}
	if after := openFDs(t); after != before {
		t.Errorf("descriptors: %d before, %d after", before, after)
	}
}
