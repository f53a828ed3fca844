package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
)

// TestVolume reads and changes a directory and a file of the host.
func TestVolume(t *testing.T) {
	p := start(t)
	p.base()
	dir := p.dir + "/volume"
	must(t, os.MkdirAll(dir+"/sub/gone", 0o755))
	write := func(name, text string) {
		t.Helper()
		must(t, os.WriteFile(dir+"/"+name, []byte(text), 0o644))
		must(t, os.Chtimes(dir+"/"+name, time.Unix(1, 5), time.Unix(1, 5)))
	}
	write("same", "same")
	write("opened", "opened")
	write("sub/changed", "old")
	write("sub/gone/x", "x")
	write("file", "old")
	must(t, os.Chmod(dir+"/sub/changed", 0o640))
	must(t, os.Symlink("sub", dir+"/link"))
	must(t, unix.Mkfifo(dir+"/fifo", 0o644))
	inode := func(name string) uint64 {
		var st unix.Stat_t
		must(t, unix.Lstat(dir+"/"+name, &st))
		return st.Ino
	}
	before := map[string]uint64{}
	for _, name := range []string{"same", "opened", "file", "sub"} {
		before[name] = inode(name)
	}
	r := p.run(`cd /v; ls; cat link/changed; stat -c '%u %a %Y' same; : >>opened; echo new >sub/changed; rm -r sub/gone
		mkdir -p made/deep; echo x >made/deep/x; chmod 700 made; ln made/deep/x made/y; ln -s /away made/l; ln -sfn same link
		mknod made/p p; mknod made/dev c 1 3; echo changed >/f; touch /ro/x 2>&1 | sed 's/.*: //'; cat /ro/file`,
		func(r *guest.Run) {
			r.Mounts = []guest.Mount{
				{Type: guest.MountVolume, Target: "/v", Source: dir},
				{Type: guest.MountVolume, Target: "/f", Source: dir + "/file"},
				{Type: guest.MountVolume, Target: "/ro", Source: dir, ReadOnly: true},
			}
		})
	if want := "file\nlink\nopened\nsame\nsub\nold0 644 1\nRead-only file system\nold"; r.err != nil || r.out != want {
		t.Errorf("%v, got %q, want %q", r.err, r.out, want)
	}
	for name, ino := range before {
		if inode(name) != ino {
			t.Errorf("%s was replaced", name)
		}
	}
	var got strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		must(t, err)
		info, err := e.Info()
		must(t, err)
		text, _ := os.Readlink(path)
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			must(t, err)
			text = string(b)
		}
		fmt.Fprintf(&got, "%s %s %s\n", strings.TrimPrefix(path, dir), info.Mode(), strings.TrimSpace(text))
		return nil
	}))
	want := ` drwxr-xr-x 
/fifo prw-r--r-- 
/file -rw-r--r-- changed
/link Lrwxrwxrwx same
/made drwx------ 
/made/deep drwxr-xr-x 
/made/deep/x -rw-r--r-- x
/made/l Lrwxrwxrwx /away
/made/y -rw-r--r-- x
/opened -rw-r--r-- opened
/same -rw-r--r-- same
/sub drwxr-xr-x 
/sub/changed -rw-r----- new
`
	if got.String() != want {
		t.Errorf("got\n%s", got.String())
	}
	if inode("made/y") != inode("made/deep/x") {
		t.Error("hard links were separated")
	}
}
