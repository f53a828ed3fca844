package chroot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
)

// state describes the files of a tree with their modes, times and content.
func state(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprint(&b, strings.TrimPrefix(path, dir), " ", info.Mode())
		if e.Type() != fs.ModeSymlink {
			fmt.Fprint(&b, " ", info.ModTime().UnixNano())
		}
		if e.Type().IsRegular() {
			text, err := os.ReadFile(path)
			fmt.Fprintf(&b, " %q %v", text, err)
		}
		fmt.Fprintln(&b)
		return nil
	}))
	return b.String()
}

// oldTree fills a tree with entries that populate replaces, with old times.
func oldTree(t *testing.T, tree string) {
	t.Helper()
	must(t, os.MkdirAll(tree+"/etc", 0o755))
	must(t, os.MkdirAll(tree+"/dev/old", 0o700))
	must(t, os.WriteFile(tree+"/etc/hosts", []byte("old hosts"), 0o600))
	must(t, os.Symlink("../run/resolv.conf", tree+"/etc/resolv.conf"))
	must(t, os.Mkdir(tree+"/data", 0o700))
	must(t, os.WriteFile(tree+"/data/file", []byte("old data"), 0o600))
	must(t, os.Symlink("data", tree+"/link"))
	old := time.Unix(1000000000, 7)
	for _, name := range []string{"etc/hosts", "etc", "dev/old", "dev", "data/file", "data", "."} {
		must(t, os.Chtimes(tree+"/"+name, old, old))
	}
}

// TestPopulate checks the files of a tree during a step, and that they are as before after
// it.
func TestPopulate(t *testing.T) {
	t.Parallel()
	needDevices(t)
	s, container := newSupervisor(t)
	tree := container + "/tree"
	oldTree(t, tree)
	before := state(t, tree)
	must(t, os.Mkdir(container+"/cache", 0o755))
	must(t, os.WriteFile(container+"/source", []byte("new data"), 0o640))
	s.req = &wire.Request{HostsFile: "127.0.0.1 x\n", ResolvConf: "nameserver 1.1.1.1\n", Mounts: []wire.Mount{
		{Type: "tmpfs", Target: "/tmp", Mode: 0o1777},
		{Type: "bind", Source: container + "/source", Target: "/link/file", ReadOnly: true},
		{Type: "bind", Source: container + "/cache", Target: "/tmp/a/cache"},
	}}
	must(t, s.populate())
	for name, want := range map[string]string{
		"etc/hosts": "127.0.0.1 x\n", "etc/resolv.conf": "../run/resolv.conf", "run/resolv.conf": "nameserver 1.1.1.1\n",
		"proc/mounts": "cairn / rootfs rw 0 0\n", "data/file": "new data", "dev/fd/1": "/dev/stdout",
	} {
		text, err := os.Readlink(tree + "/" + name)
		if err != nil {
			var data []byte
			data, err = os.ReadFile(tree + "/" + name)
			text = string(data)
		}
		if err != nil || text != want {
			t.Errorf("%s: %q, %v, want %q", name, text, err, want)
		}
	}
	for name, want := range map[string]os.FileMode{
		"dev": os.ModeDir | 0o755, "dev/shm": os.ModeDir | os.ModeSticky | 0o777, "proc": os.ModeDir | 0o555, "proc/version": 0o444,
		"tmp": os.ModeDir | os.ModeSticky | 0o777, "tmp/a/cache": os.ModeDir | 0o755,
	} {
		if info, err := os.Lstat(tree + "/" + name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info, err, want)
		}
	}
	for _, name := range []string{"dev/stdout", "dev/stderr"} {
		if info, err := os.Lstat(tree + "/" + name); err != nil || info.Mode().Type() != os.ModeNamedPipe {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if exists(tree + "/dev/old") {
		t.Error("/dev has files of the image")
	}
	must(t, os.WriteFile(tree+"/tmp/a/cache/new", nil, 0o644)) // the work of the command
	must(t, os.WriteFile(tree+"/tmp/left", nil, 0o644))
	must(t, os.WriteFile(tree+"/etc/hosts", []byte("changed"), 0o644))
	must(t, s.Undo())
	if after := state(t, tree); after != before {
		t.Errorf("the tree changed: before\n%s\nafter\n%s", before, after)
	}
	if !exists(container+"/cache/new") || !exists(container+"/source") {
		t.Error("a source of a mount is gone")
	}
	for _, name := range []string{"dev", "etc/hosts", "run/resolv.conf", "data/file", "tmp"} {
		if !strings.Contains("\x00"+s.Touched(), "\x00"+name+"\x00") {
			t.Errorf("%s is not touched: %q", name, s.Touched())
		}
	}
}

// TestPopulateErrors checks the errors of mounts, and that the tree is as before after
// them.
func TestPopulateErrors(t *testing.T) {
	t.Parallel()
	needDevices(t)
	for name, test := range map[string]struct {
		mount  wire.Mount
		change func(t *testing.T, tree string)
		want   string
	}{
		"the root":          {mount: wire.Mount{Type: "tmpfs", Target: "/"}, want: "mount on /: the root directory cannot be a mount point"},
		"a way to the root": {mount: wire.Mount{Type: "tmpfs", Target: "/data/.."}, want: "mount on /data/..: the root directory cannot be a mount point"},
		"a missing source":  {mount: wire.Mount{Type: "bind", Source: "/nothing/here", Target: "/x", ReadOnly: true}, want: "mount on /x: /nothing/here: "},
		"below a file":      {mount: wire.Mount{Type: "tmpfs", Target: "/etc/hosts/x"}, want: "mount on /etc/hosts/x: look up /etc/hosts/x: " + unix.ENOTDIR.Error()},
		"an overlay":        {mount: wire.Mount{Type: "overlay", Target: "/x"}, want: "mount on /x: mounts of type overlay need the right to mount"},
		"a loop in /etc": {
			change: func(t *testing.T, tree string) {
				must(t, os.RemoveAll(tree+"/etc"))
				must(t, os.Symlink("etc", tree+"/etc"))
			},
			want: "prepare /etc/hosts: look up etc/hosts: " + unix.ELOOP.Error(),
		},
		"a file in place of /etc": {
			change: func(t *testing.T, tree string) {
				must(t, os.RemoveAll(tree+"/etc"))
				must(t, os.WriteFile(tree+"/etc", nil, 0o644))
			},
			want: "prepare /etc/hosts: look up /etc/hosts: " + unix.ENOTDIR.Error(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, container := newSupervisor(t)
			oldTree(t, container+"/tree")
			if test.change != nil {
				test.change(t, container+"/tree")
			}
			before := state(t, container+"/tree")
			s.req = &wire.Request{Mounts: []wire.Mount{{Type: "file", Target: "/data/file", Data: "secret", UID: int64(os.Getuid()), GID: int64(os.Getgid())}, test.mount}}
			if err := s.populate(); err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			must(t, s.Undo())
			if after := state(t, container+"/tree"); after != before {
				t.Errorf("the tree changed: before\n%s\nafter\n%s", before, after)
			}
		})
	}
}

// TestLinkOutOfTree checks that links in targets and subpaths do not lead out of their
// tree.
func TestLinkOutOfTree(t *testing.T) {
	t.Parallel()
	s, container := newSupervisor(t)
	must(t, os.Symlink("../../..", container+"/tree/out"))
	must(t, os.Symlink(container, container+"/tree/absolute"))
	must(t, os.Mkdir(container+"/source", 0o755))
	must(t, os.WriteFile(container+"/secret", nil, 0o600))
	must(t, os.Symlink("../secret", container+"/source/link"))
	must(t, s.mount(wire.Mount{Type: "tmpfs", Target: "/out/a", Mode: 0o700}))
	must(t, s.mount(wire.Mount{Type: "tmpfs", Target: "/absolute/b", Mode: 0o700}))
	if !exists(container+"/tree/a") || !exists(container+"/tree"+container+"/b") || exists(container+"/b") {
		t.Error("a mount is in the wrong place")
	}
	err := s.mount(wire.Mount{Type: "bind", Source: container + "/source", Subpath: "link", Target: "/c", ReadOnly: true})
	if !errors.Is(err, unix.ENOENT) {
		t.Errorf("a subpath that leads out: %v", err)
	}
	must(t, s.Undo())
	if list, err := os.ReadDir(container + "/tree"); err != nil || len(list) != 2 {
		t.Errorf("left %v, %v", list, err)
	}
}

// TestSocket checks that a read-only socket is moved: a copy of it would have no server.
func TestSocket(t *testing.T) {
	t.Parallel()
	s, container := newSupervisor(t)
	source := container + "/agent"
	must(t, unix.Mknod(source, unix.S_IFSOCK|0o600, 0))
	must(t, s.mount(wire.Mount{Type: "bind", Source: source, Target: "/run/agent", ReadOnly: true}))
	if info, err := os.Lstat(container + "/tree/run/agent"); err != nil || info.Mode().Type() != os.ModeSocket || exists(source) {
		t.Errorf("got %v, %v", info, err)
	}
	must(t, s.Undo())
	if !exists(source) {
		t.Error("the socket did not come back")
	}
	must(t, unix.Mkfifo(container+"/fifo", 0o600))
	err := s.mount(wire.Mount{Type: "bind", Source: container + "/fifo", Target: "/x", ReadOnly: true})
	if !errors.Is(err, unix.EINVAL) || !strings.HasPrefix(err.Error(), "the source is neither a file nor a directory") {
		t.Errorf("a pipe: %v", err)
	}
	must(t, s.Undo())
}

// TestNestedMoves checks that a directory which was moved into another one comes back
// first.
func TestNestedMoves(t *testing.T) {
	t.Parallel()
	s, container := newSupervisor(t)
	for _, name := range []string{"outer", "inner"} {
		must(t, os.Mkdir(container+"/"+name, 0o755))
		must(t, s.mount(wire.Mount{Type: "bind", Source: container + "/" + name, Target: map[string]string{"outer": "/a", "inner": "/a/b"}[name]}))
	}
	must(t, os.WriteFile(container+"/tree/a/b/file", nil, 0o644))
	must(t, s.Undo())
	list, err := os.ReadDir(container + "/outer")
	if err != nil || len(list) > 0 || !exists(container+"/inner/file") {
		t.Errorf("the outer directory has %v, %v", list, err)
	}
}

// TestPipe checks that everything that a command writes to a pipe arrives, also the part
// that is still in the pipe when the step ends.
func TestPipe(t *testing.T) {
	t.Parallel()
	s, container := newSupervisor(t)
	dir, err := unix.Open(container, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(dir)
	s.req = &wire.Request{Own: 1 << 1}
	var got bytes.Buffer
	must(t, s.addPipe(dir, 1, &got))
	want := strings.Repeat("some text ", 10_000) // more than a pipe holds
	for range 2 {
		f, err := os.OpenFile(container+"/stdout", os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString(want)
		must(t, err)
		must(t, f.Close())
	}
	must(t, s.Undo())
	if got.String() != want+want {
		t.Errorf("%d bytes arrived of %d", got.Len(), 2*len(want))
	}
	if err := s.addPipe(dir, 1, &got); err != unix.EEXIST {
		t.Errorf("an existing name: %v", err)
	}
}

// TestDrain checks that draining a pipe ends when it is empty or the writer fails.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, failing := range []bool{false, true} {
		var pipe [2]int
		must(t, unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC))
		_, err := unix.Write(pipe[1], []byte("text"))
		must(t, err)
		w := &writer{failing: failing}
		must(t, drain(pipe[0], w))
		if string(w.got) != "text" {
			t.Errorf("got %q", w.got)
		}
		unix.Close(pipe[0])
		unix.Close(pipe[1])
	}
}

// writer records the bytes of each write, and fails if failing is set.
type writer struct {
	got     []byte
	failing bool
}

func (w *writer) Write(b []byte) (int, error) {
	w.got = append(w.got, b...)
	if w.failing {
		return 0, errors.New("failed")
	}
	return len(b), nil
}

// TestCreators checks that files and directories replace nothing and follow no link.
func TestCreators(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, os.Symlink("target", dir+"/link"))
	must(t, os.WriteFile(dir+"/file", nil, 0o644))
	uid, gid := int64(os.Getuid()), int64(os.Getgid())
	for _, name := range []string{"link", "file"} {
		if err := file("x", 0o644, uid, gid)(fd, name); err != unix.EEXIST {
			t.Errorf("a file over %s: %v", name, err)
		}
		if err := directory(0o755, nil)(fd, name); err != unix.EEXIST {
			t.Errorf("a directory over %s: %v", name, err)
		}
	}
	failed := errors.New("failed")
	if err := directory(0o2711, func(inner int) error { return errors.Join(file("x", 0o4400, uid, gid)(inner, "f"), failed) })(fd, "new"); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	for name, want := range map[string]os.FileMode{"new": os.ModeDir | os.ModeSetgid | 0o711, "new/f": os.ModeSetuid | 0o400} {
		if info, err := os.Lstat(dir + "/" + name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info, err, want)
		}
	}
	if exists(dir + "/target") {
		t.Error("a link was followed")
	}
}

// needDevices skips a test if device nodes cannot be made.
func needDevices(t *testing.T) {
	t.Helper()
	if err := unix.Mknod(t.TempDir()+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Skip("device nodes cannot be made:", err)
	}
}

// TestCreateDevice checks that the devices of a step are those of the machine.
func TestCreateDevice(t *testing.T) {
	t.Parallel()
	needDevices(t)
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	for _, d := range step.Devices() {
		must(t, createDevice(fd, d))
		var st unix.Stat_t
		if err := unix.Lstat(dir+"/"+d.Name, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(d.Major, d.Minor) {
			t.Errorf("%s: mode %o, device %d, %v", d.Name, st.Mode, st.Rdev, err)
		}
	}
	must(t, os.WriteFile(dir+"/null", []byte("x"), 0))
	if err := createDevice(fd, step.Device{Name: "null", Major: 1, Minor: 3}); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a second null: %v", err)
	}
	if err := createDevice(fd, step.Device{Name: "none", Major: 4000, Minor: 1}); err == nil || !strings.HasPrefix(err.Error(), "open the device: ") {
		t.Errorf("a device that cannot be opened: %v", err)
	}
}

// TestNoCapabilityForDevices checks that no file takes the place of a device node.
func TestNoCapabilityForDevices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread ends
		head, none := step.CapabilitySets(0)
		if err := unix.Capset(&head, &none[0]); err != nil {
			done <- err
			return
		}
		done <- createDevice(fd, step.Device{Name: "null", Major: 1, Minor: 3})
	}()
	if err := <-done; !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "capabilities.add: [MKNOD]") {
		t.Errorf("error %v", err)
	}
	if exists(dir + "/null") {
		t.Error("null exists")
	}
}
