package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/plaintree"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openDir opens a directory with O_PATH.
func openDir(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// newServer returns a server that has not prepared anything.
func newServer() *server { return &server{bases: map[string]bool{}} }

// TestMountPointLayer checks that a layer of mount points has the attributes of the tree.
func TestMountPointLayer(t *testing.T) {
	t.Parallel()
	root, folder := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(root+"/etc/conf", 0o755))
	must(t, os.Chmod(root+"/etc/conf", 0o750))
	must(t, os.Chmod(root+"/etc", 0o711|os.ModeSetgid))
	old := time.Unix(1000000000, 123)
	for _, name := range []string{"etc/conf", "etc", "."} {
		must(t, os.Chtimes(root+"/"+name, old, old))
	}
	xattrs := unix.Setxattr(root+"/etc", "user.name", []byte("value"), 0) == nil
	layer, err := newMountPointLayer(folder, openDir(t, root), []plaintree.MountPoint{
		{Path: "etc/conf/file", File: true}, {Path: "etc/dir"}, {Path: "new/sub/file", File: true},
	})
	must(t, err)
	for name, mode := range map[string]os.FileMode{
		"etc": 0o711 | os.ModeDir | os.ModeSetgid, "etc/conf": 0o750 | os.ModeDir, "etc/conf/file": 0, "etc/dir": os.ModeDir, "new/sub/file": 0,
	} {
		info, err := os.Lstat(layer + "/" + name)
		must(t, err)
		if info.Mode().Type() != mode.Type() || mode.Perm() != 0 && info.Mode() != mode {
			t.Errorf("%s: mode %v, want %v", name, info.Mode(), mode)
		}
		if mode.Perm() != 0 && !info.ModTime().Equal(old) {
			t.Errorf("%s: time %v", name, info.ModTime())
		}
	}
	value := make([]byte, 16)
	if n, err := unix.Getxattr(layer+"/etc", "user.name", value); xattrs && (err != nil || string(value[:n]) != "value") {
		t.Errorf("attribute: %q, %v", value[:max(n, 0)], err)
	}
	if !strings.HasPrefix(layer, folder+"/cover") {
		t.Errorf("the layer is %s", layer)
	}
}

// TestMountPointLayerErrors checks that an incomplete layer is returned to be removed.
func TestMountPointLayerErrors(t *testing.T) {
	t.Parallel()
	root, folder := t.TempDir(), t.TempDir()
	layer, err := newMountPointLayer(folder, openDir(t, root), []plaintree.MountPoint{{Path: "a", File: true}, {Path: "a/b"}})
	if !errors.Is(err, unix.ENOTDIR) || !strings.HasPrefix(err.Error(), "make mount point /a/b: ") {
		t.Errorf("below a file: %v", err)
	}
	if _, err := os.Stat(layer); layer == "" || err != nil {
		t.Errorf("the layer: %q, %v", layer, err)
	}
	must(t, os.Symlink("/etc", root+"/link"))
	if layer, err = newMountPointLayer(folder, openDir(t, root), []plaintree.MountPoint{{Path: "link/x"}}); !errors.Is(err, unix.ELOOP) || layer == "" {
		t.Errorf("below a link: %q, %v", layer, err)
	}
	if layer, err = newMountPointLayer(folder+"/gone", openDir(t, root), nil); err == nil || layer != "" {
		t.Errorf("in a missing folder: %q, %v", layer, err)
	}
}

// TestBase checks that the layer of usual mount points is made once for each folder.
func TestBase(t *testing.T) {
	t.Parallel()
	s, folder := newServer(), t.TempDir()
	for range 2 {
		dir, err := s.base(folder, &wire.Request{})
		must(t, err)
		if info, err := os.Stat(dir + "/etc/hosts"); dir != folder+"/base" || err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: %v", dir, err)
		}
	}
	must(t, os.RemoveAll(folder+"/base"))
	if _, err := s.base(folder, &wire.Request{}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(folder + "/base"); err == nil {
		t.Error("the layer was made again")
	}
	must(t, os.WriteFile(folder+"/file", nil, 0o644))
	for range 2 { // a failure is not remembered as a finished layer
		if _, err := s.base(folder+"/file", &wire.Request{}); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("in a file: %v", err)
		}
	}
}

// TestMissing checks that missing mount points have the type of the mounts on them.
func TestMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, plaintree.MakeUsual(dir))
	must(t, os.Symlink("/etc", dir+"/conf"))
	s := newServer()
	tree := s.newTree(&wire.Request{Mounts: []wire.Mount{{Target: "/conf/secret"}, {Target: "/data"}, {Target: "/data/below"}, {Target: "/etc/hosts"}, {Target: "/../up"}}})
	tree.pending = []pendingMount{{-1, true}, {-1, false}, {-1, true}, {-1, true}, {-1, false}}
	got, err := tree.missing(openDir(t, dir))
	must(t, err)
	if want := []plaintree.MountPoint{{Path: "etc/secret", File: true}, {Path: "data"}, {Path: "up"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestAttachErrors checks mounts that cannot be attached. Their descriptors are closed in
// the end.
func TestAttachErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Symlink("/proc/self", dir+"/self"))
	must(t, os.Symlink("..", dir+"/up"))
	must(t, os.Symlink("round", dir+"/round"))
	for target, want := range map[string]string{
		"/":         "the root directory cannot be a mount point",
		"/a/..":     "the root directory cannot be a mount point",
		"/up":       "the root directory cannot be a mount point",
		"/proc":     "/proc cannot be a mount point",
		"/self/fd":  "/proc cannot be a mount point",
		"/up/proc/": "/proc cannot be a mount point",
		"/round":    unix.ELOOP.Error(),
	} {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		tree := newServer().newTree(&wire.Request{Mounts: []wire.Mount{{Target: target}}})
		tree.root, tree.pending = openDir(t, dir), []pendingMount{{fd, false}}
		if err := tree.attachMounts(); err == nil || !strings.HasPrefix(err.Error(), "mount on "+target+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", target, err, want)
		}
		if tree.pending[0].fd != fd {
			t.Errorf("%s: the mount counts as attached", target)
		}
		tree.closePending()
		if tree.pending != nil {
			t.Errorf("%s: left %v", target, tree.pending)
		}
	}
}

// TestMakeMountErrors checks sources that cannot be mounted.
func TestMakeMountErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Symlink("/etc", dir+"/link"))
	must(t, os.WriteFile(dir+"/file", nil, 0o644))
	for _, test := range []struct {
		mount wire.Mount
		errno error
	}{
		{wire.Mount{Type: "bind", Source: dir + "/gone", Target: "/x"}, unix.ENOENT},
		{wire.Mount{Type: "bind", Source: dir + "/link", Target: "/x"}, unix.ELOOP},
		{wire.Mount{Type: "bind", Source: dir + "/file", Subpath: "a", Target: "/x"}, unix.ENOTDIR},
		{wire.Mount{Type: "bind", Source: dir, Subpath: "gone", Target: "/x"}, unix.ENOENT},
		{wire.Mount{Type: "bind", Source: dir, Subpath: "link/passwd", Target: "/x"}, unix.ENOENT}, // the link stays below the source
	} {
		tree := newServer().newTree(&wire.Request{Mounts: []wire.Mount{test.mount}})
		err := tree.makeMounts()
		if !errors.Is(err, test.errno) || !strings.HasPrefix(err.Error(), "mount on /x: "+test.mount.Source+": ") || len(tree.pending) > 0 {
			t.Errorf("%+v: %v, want %v", test.mount, err, test.errno)
		}
	}
}

// TestAddMountPoint checks mount points inside an earlier mount.
func TestAddMountPoint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := newServer().newTree(&wire.Request{})
	tree.root = openDir(t, dir)
	must(t, tree.addMountPoint(plaintree.MountPoint{Path: "a/b/file", File: true}))
	must(t, tree.addMountPoint(plaintree.MountPoint{Path: "a/b/dir"}))
	for name, isFile := range map[string]bool{"a/b/file": true, "a/b/dir": false} {
		if info, err := os.Lstat(dir + "/" + name); err != nil || info.Mode().IsRegular() != isFile {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := tree.addMountPoint(plaintree.MountPoint{Path: "a/b/file/x"}); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

// TestOpenDir checks directories of the image that links replace.
func TestOpenDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/dir", 0o755))
	must(t, os.Symlink("dir", dir+"/link"))
	must(t, os.WriteFile(dir+"/file", nil, 0o644))
	tree := newServer().newTree(&wire.Request{})
	tree.root = openDir(t, dir)
	fd, err := tree.openDir("dir")
	must(t, err)
	unix.Close(fd)
	for _, name := range []string{"link", "file"} {
		if _, err := tree.openDir(name); err == nil || !strings.HasPrefix(err.Error(), "/"+name+" of the image is not a directory: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tree.openDir("gone"); err != unix.ENOENT {
		t.Errorf("a missing directory: %v", err)
	}
}

// TestTemporary checks that the files of a step have new names and are removed with the
// changes of its tree.
func TestTemporary(t *testing.T) {
	t.Parallel()
	s := newServer()
	a, b := s.newTree(&wire.Request{}), s.newTree(&wire.Request{})
	names := []string{a.temporaryName("x"), a.temporaryName("x"), b.temporaryName("x")}
	if fmt.Sprint(names) != "[/proc/fs/x1 /proc/fs/x2 /proc/fs/x3]" || !slices.Equal(a.temporary, names[:2]) || !slices.Equal(b.temporary, names[2:]) {
		t.Errorf("names %v, %v, %v", names, a.temporary, b.temporary)
	}
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/layer/sub", 0o755))
	must(t, os.Mkdir(dir+"/tree", 0o755))
	a.temporary = []string{dir + "/layer", dir + "/gone"}
	fd, err := unix.Open(dir+"/tree", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	a.plain.Root = fd
	must(t, a.plain.AddMountPoint(plaintree.MountPoint{Path: "new/dir"}))
	a.removeTemporary()
	if _, err := os.Stat(dir + "/layer"); err == nil {
		t.Error("the layer is left")
	}
	if list, err := os.ReadDir(dir + "/tree"); err != nil || len(list) > 0 {
		t.Errorf("the tree has %v, %v", list, err)
	}
	if a.plain.Touched() != ".\x00new\x00" {
		t.Errorf("touched %q", a.plain.Touched())
	}
}

// TestClose checks that a tree closes its descriptors once.
func TestClose(t *testing.T) {
	t.Parallel()
	open := func() int {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		return fd
	}
	tree := newServer().newTree(&wire.Request{})
	tree.root, tree.dev, tree.empty, tree.pending = open(), open(), open(), []pendingMount{{open(), false}, {-1, true}}
	tree.close()
	if tree.root != -1 || tree.dev != -1 || tree.empty != -1 || tree.pending != nil {
		t.Errorf("left %+v", tree)
	}
	tree.close()
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	name := t.TempDir() + "/file"
	m := wire.Mount{Data: "text", Mode: 0o4440, UID: int64(os.Getuid()), GID: int64(os.Getgid())}
	must(t, writeFile(name, m))
	info, err := os.Stat(name)
	must(t, err)
	if text, err := os.ReadFile(name); err != nil || string(text) != "text" || info.Mode() != 0o440|os.ModeSetuid {
		t.Errorf("%q, %v, %v", text, err, info.Mode())
	}
	if err := writeFile(name+"/x", m); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}
