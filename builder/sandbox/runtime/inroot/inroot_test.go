package inroot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rootOf opens a folder as the root of a tree.
func rootOf(t testing.TB, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func linkTree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/a/b/c", 0o755))
	must(t, os.WriteFile(dir+"/a/file", nil, 0o644))
	for name, target := range map[string]string{
		"abs": "/a/b", "up": "../../../a", "a/rel": "b/c", "a/b/back": "../..", "dangle": "/not/here",
		"dots": "/a/b/../../../..", "self": "self", "chain": "abs/back", "half": "a/missing/../b",
	} {
		must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	return dir
}

func TestResolve(t *testing.T) {
	root := rootOf(t, linkTree(t))
	for _, test := range []struct {
		path, want string
		found      bool
		err        error
	}{
		{"/", "", true, nil},
		{"", "", true, nil},
		{"a/b", "a/b", true, nil},
		{"/abs/c", "a/b/c", true, nil},
		{"up/b", "a/b", true, nil},
		{"a/rel/x/y", "a/b/c/x/y", false, nil},
		{"chain/file", "file", false, nil},
		{"dangle/x", "not/here/x", false, nil},
		{"dots/a", "a", true, nil},
		{"../../a/./file", "a/file", true, nil},
		{"new/../a/new", "a/new", false, nil},
		{"new/../a", "a", true, nil},
		{"self", "", false, unix.ELOOP},
		{"a/file/x", "", false, unix.ENOTDIR},
	} {
		got, found, err := Resolve(root, test.path)
		if got != test.want || found != test.found || !errors.Is(err, test.err) {
			t.Errorf("%q: got %q, %v, %v, want %q, %v, %v", test.path, got, found, err, test.want, test.found, test.err)
		}
	}
}

// FuzzResolve compares the result with that of the kernel for paths that exist.
func FuzzResolve(f *testing.F) {
	for _, p := range []string{"abs/../../up/b/back/chain", "half/c", "self", "dots/dangle", "a/rel/../file"} {
		f.Add(p)
	}
	dir := linkTree(f)
	root := rootOf(f, dir)
	f.Fuzz(func(t *testing.T, path string) {
		if strings.ContainsRune(path, 0) || len(path) > 500 {
			return
		}
		got, found, err := Resolve(root, path)
		fd, kernelErr := Open(root, path, unix.O_PATH)
		if kernelErr != nil {
			return
		}
		defer unix.Close(fd)
		if err != nil || !found {
			t.Fatalf("%q: %q, %v, %v, but the kernel finds it", path, got, found, err)
		}
		var want, have unix.Stat_t
		must(t, unix.Fstat(fd, &want))
		if must(t, unix.Lstat(dir+"/"+got, &have)); want.Ino != have.Ino {
			t.Errorf("%q: %q is another file than the kernel's", path, got)
		}
	})
}

// TestOpenWhileMounting opens paths with .., which the kernel refuses during mounts and
// renames elsewhere.
func TestOpenWhileMounting(t *testing.T) {
	dir := linkTree(t)
	root := rootOf(t, dir)
	stop := make(chan bool)
	done := make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				os.Rename(dir+"/a/file", dir+"/a/other")
				os.Rename(dir+"/a/other", dir+"/a/file")
			}
		}
	}()
	for range 20000 {
		fd, err := Open(root, "a/b/../../up/b/back/abs/c", unix.O_PATH)
		if err != nil {
			t.Error(err)
			break
		}
		unix.Close(fd)
	}
	close(stop)
	<-done
}

func TestOpenStaysInside(t *testing.T) {
	dir := linkTree(t)
	must(t, os.Symlink("/etc/hostname", dir+"/out"))
	must(t, os.Symlink("/proc/self/exe", dir+"/magic"))
	for _, path := range []string{"out", "../../../../../../etc/hostname", "magic"} {
		if fd, err := Open(rootOf(t, dir), path, unix.O_PATH); err == nil {
			unix.Close(fd)
			t.Errorf("%s was opened", path)
		}
	}
}
