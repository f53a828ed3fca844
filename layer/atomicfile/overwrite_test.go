package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// privateMounts moves the test's thread into a new mount namespace for good.
func privateMounts(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		t.Skipf("mounting needs root: unshare: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("private mounts: %v", err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s has %q, %v, want %q", filepath.Base(path), got, err, want)
	}
}

// mounted returns a file with the text "a long old text" that is a mount point, in a
// directory without other files.
func mounted(t *testing.T) string {
	source := filepath.Join(t.TempDir(), "source")
	check(t, os.WriteFile(source, []byte("a long old text"), 0o666))
	check(t, os.Chmod(source, 0o666))
	path := filepath.Join(t.TempDir(), "mounted")
	check(t, os.WriteFile(path, nil, 0o600))
	check(t, unix.Mount(source, path, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// A mount point is overwritten, and emptied after a failure.
func TestMountPoint(t *testing.T) {
	privateMounts(t)
	path := mounted(t)
	if !isMount(path) {
		t.Errorf("%s is not recognised as a mount point", path)
	}
	check(t, Check(path))
	check(t, Output(path, func(w io.Writer) error {
		_, err := io.WriteString(w, "new")
		return err
	}))
	read(t, path, "new")
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o666 {
		t.Errorf("the mode is %v, %v, want that of the old file", fi.Mode(), err)
	}
	broken := errors.New("broken")
	if err := File(path, 0o600, func(f *os.File) error { return errors.Join(hello(f), broken) }); !errors.Is(err, broken) {
		t.Error(err)
	}
	read(t, path, "")
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("the mode of a secret is %v, %v", fi.Mode(), err)
	}
	check(t, os.WriteFile(path, []byte("old"), 0o600))
	check(t, Remove(path))
	read(t, path, "")
	only(t, filepath.Dir(path), "mounted")
}

// A complete file is copied where a rename is refused.
func TestRefusedRename(t *testing.T) {
	privateMounts(t)
	for name, open := range map[string]func(string) (*os.File, error){"unnamed": unnamed, "named": named} {
		path := mounted(t)
		f, err := open(path)
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		check(t, hello(f))
		check(t, put(f, path, 0o644))
		read(t, path, "hello")
		f.Close()
	}
}

// A file is overwritten in a directory that takes no new files.
func TestReadOnlyDirectory(t *testing.T) {
	privateMounts(t)
	path := mounted(t)
	dir := filepath.Dir(path)
	check(t, os.WriteFile(dir+"/other", []byte("old"), 0o644))
	check(t, unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""))
	check(t, unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	check(t, Check(path))
	check(t, File(path, 0o644, hello))
	read(t, path, "hello")
	for _, name := range []string{"other", "new"} {
		if err := Check(dir + "/" + name); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s can be written: %v", name, err)
		}
		var at *fs.PathError
		if err := File(dir+"/"+name, 0o644, hello); !errors.Is(err, unix.EROFS) || !errors.As(err, &at) || at.Path != dir+"/"+name {
			t.Errorf("%s: %v", name, err)
		}
	}
	read(t, dir+"/other", "old")
}

// In a directory of another user, a file is overwritten if its mode allows that.
func TestForeignDirectory(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write in every directory")
	}
	dir := t.TempDir()
	path := dir + "/file"
	check(t, os.WriteFile(path, []byte("a long old text"), 0o644))
	check(t, os.Chmod(dir, 0o555))
	t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	check(t, Check(path))
	check(t, File(path, 0o644, hello))
	read(t, path, "hello")
	check(t, Remove(path))
	read(t, path, "")
	check(t, os.Chmod(path, 0o444))
	for _, err := range []error{Check(path), File(path, 0o644, hello), Check(dir + "/new"), File(dir+"/new", 0o644, hello)} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("error %v", err)
		}
	}
}

// Errors of the writer are not mistaken for a refusal to replace the file.
func TestErrorsOfWriters(t *testing.T) {
	both(t, func(t *testing.T, make func(string, fs.FileMode, func(*os.File) error) error) {
		path := filepath.Join(t.TempDir(), "file")
		check(t, os.WriteFile(path, []byte("old"), 0o644))
		if err := make(path, 0o644, func(*os.File) error { return unix.EACCES }); !errors.Is(err, unix.EACCES) {
			t.Error(err)
		}
		read(t, path, "old")
	})
}

// Output writes through links, also to files that do not exist yet.
func TestOutputLinks(t *testing.T) {
	dir := t.TempDir()
	file, link := dir+"/file", dir+"/link"
	check(t, os.Symlink("file", link))
	write := func(text string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}
	}
	for _, text := range []string{"a long text", "short"} {
		check(t, Output(link, write(text)))
		read(t, file, text)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link is %v, %v", fi, err)
	}
	broken := errors.New("broken")
	if err := Output(link, func(w io.Writer) error { return errors.Join(write("new")(w), broken) }); !errors.Is(err, broken) {
		t.Error(err)
	}
	read(t, file, "")
	check(t, Output(os.DevNull, write("nothing")))
}

// A link to standard output continues it instead of truncating its file.
func TestOutputStdout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdout")
	out, err := os.Create(path)
	check(t, err)
	defer out.Close()
	check(t, hello(out))
	old := os.Stdout
	defer func() { os.Stdout = old }()
	os.Stdout = out
	link := path + "-link"
	check(t, os.Symlink(path, link))
	check(t, Output(link, func(w io.Writer) error {
		_, err := io.WriteString(w, ", world")
		return err
	}))
	read(t, path, "hello, world")
}

// A link to another descriptor does so too.
func TestOutputDescriptor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := os.Create(dir + "/file")
	check(t, err)
	defer f.Close()
	check(t, hello(f))
	name := fmt.Sprintf("/dev/fd/%d", f.Fd())
	check(t, os.Symlink(name, dir+"/one"))
	check(t, os.Symlink("one", dir+"/two"))
	for _, path := range []string{name, dir + "/two", fmt.Sprintf("/proc/self/fd/%d", f.Fd())} {
		check(t, Output(path, func(w io.Writer) error {
			_, err := io.WriteString(w, "+")
			return err
		}))
		if err := Output(path, func(io.Writer) error { return os.ErrInvalid }); !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%s: error %v", path, err)
		}
	}
	read(t, dir+"/file", "hello+++")
	check(t, os.Symlink("loop", dir+"/loop"))
	if err := Output(dir+"/loop", func(io.Writer) error { return nil }); err == nil {
		t.Error("a link to itself is written")
	}
}
