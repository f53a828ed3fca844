package step

import (
	"fmt"
	"math"
	"os"
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

func FuzzLookUp(f *testing.F) {
	f.Add("root:x:0:0::/root:\n", "wheel:x:1:root\n", "root")
	f.Add("a:x:5:6:::", "b:x:7:a", "a:b")
	f.Add("::::", ":::,,", "5:x")
	f.Fuzz(func(t *testing.T, passwd, group, spec string) {
		dir := t.TempDir()
		must(t, os.Mkdir(dir+"/etc", 0o755))
		must(t, os.WriteFile(dir+"/etc/passwd", []byte(passwd), 0o644))
		must(t, os.WriteFile(dir+"/etc/group", []byte(group), 0o644))
		a, err := LookUp(rootOf(t, dir), spec)
		if err == nil && (len(a.Groups) == 0 || a.UID < 0 || a.GID < 0 || a.UID >= math.MaxUint32 || a.GID >= math.MaxUint32) {
			t.Errorf("got %+v", a)
		}
	})
}

// TestInvalidIDs checks numbers whose lower 32 bits are other ids, such as that of root.
func TestInvalidIDs(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/etc", 0o755))
	must(t, os.WriteFile(dir+"/etc/passwd", []byte("big:x:4294967296:5::/:\nfive:x:8589934597:5::/:\nsame:x:4294967295:5::/:\n"+
		"group:x:5:4294967296::/:\nmember:x:5:5::/:\nlast:x:4294967294:4294967294::/:\n"), 0o644))
	must(t, os.WriteFile(dir+"/etc/group", []byte("all:x:4294967296:member\n"), 0o644))
	root := rootOf(t, dir)
	for _, spec := range []string{"big", "five", "same", "group", "member", "last:all", "4294967295:0", "0:4294967295", "big:5"} {
		if a, err := LookUp(root, spec); err == nil || !strings.Contains(err.Error(), ": ids are between 0 and 4294967294") {
			t.Errorf("%s: %+v, %v", spec, a, err)
		}
	}
	if a, err := LookUp(root, "last"); err != nil || a.UID != 4294967294 || a.GID != 4294967294 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestLookUp(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/etc", 0o755))
	must(t, os.WriteFile(dir+"/etc/passwd", []byte("root:x:0:0::/root:/bin/sh\nada:x:1000:1001::/home/ada:\n"), 0o644))
	must(t, os.WriteFile(dir+"/etc/group", []byte("root:x:0:\nada:x:1001:\nwheel:x:10:ada,root\n"), 0o644))
	root, empty := rootOf(t, dir), rootOf(t, t.TempDir())
	for _, test := range []struct {
		root int
		spec string
		want Account
	}{
		{root, "", Account{0, 0, []uint32{0, 10}, "/root"}},
		{root, "ada", Account{1000, 1001, []uint32{1001, 10}, "/home/ada"}},
		{root, "ada:wheel", Account{1000, 10, []uint32{10}, "/home/ada"}},
		{root, "1000", Account{1000, 1001, []uint32{1001, 10}, "/home/ada"}},
		{root, "1000:7", Account{1000, 7, []uint32{7}, "/home/ada"}},
		{root, "root:root", Account{0, 0, []uint32{0}, "/root"}},
		{root, "5:6", Account{5, 6, []uint32{6}, "/"}},
		{empty, "", Account{0, 0, []uint32{0}, "/"}},
		{empty, "7", Account{7, 0, []uint32{0}, "/"}},
	} {
		got, err := LookUp(test.root, test.spec)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%q: got %+v, %v, want %+v", test.spec, got, err, test.want)
		}
	}
	for _, spec := range []string{"eve", "ada:nobody", ":"} {
		if got, err := LookUp(empty, spec); err == nil && spec != ":" {
			t.Errorf("%q: got %+v", spec, got)
		}
	}
}

// TestUserFiles checks that only regular files of a bounded size are read.
func TestUserFiles(t *testing.T) {
	dir := t.TempDir()
	root := rootOf(t, dir)
	must(t, os.Mkdir(dir+"/etc", 0o755))
	must(t, unix.Mkfifo(dir+"/etc/passwd", 0o644))
	must(t, os.Symlink("/etc/passwd", dir+"/etc/group"))
	if a, err := LookUp(root, "5:6"); err != nil || a.Home != "/" {
		t.Errorf("with a pipe: %+v, %v", a, err)
	}
	must(t, os.Remove(dir+"/etc/passwd"))
	must(t, os.WriteFile(dir+"/etc/passwd", nil, 0o644))
	must(t, os.Truncate(dir+"/etc/passwd", maxUserFile+1))
	if _, err := LookUp(root, "ada"); err == nil || !strings.Contains(err.Error(), "read /etc/passwd of the image: it is larger than 10485760 bytes") {
		t.Errorf("too large: %v", err)
	}
}
