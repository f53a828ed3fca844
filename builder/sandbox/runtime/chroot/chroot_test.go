package chroot

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/plaintree"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newSupervisor returns a supervisor of an empty tree in a folder.
func newSupervisor(t *testing.T) (s *supervisor, container string) {
	t.Helper()
	container = t.TempDir()
	must(t, os.Mkdir(container+"/tree", 0o755))
	must(t, os.Mkdir(container+"/"+AsideDir, 0o700))
	root, err := unix.Open(container+"/tree", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(root) })
	return &supervisor{aside: container + "/" + AsideDir, Editor: plaintree.Editor{Root: root}}, container
}

// exists reports whether a path exists.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestMoveAndUndo binds a writable directory, and checks that it comes back with the
// changes of the command.
func TestMoveAndUndo(t *testing.T) {
	s, container := newSupervisor(t)
	source := container + "/cache"
	must(t, os.Mkdir(source, 0o755))
	must(t, s.mount(wire.Mount{Type: "bind", Source: source, Target: "/var/cache"}))
	if exists(source) || !exists(container+"/tree/var/cache") {
		t.Error("the directory was not moved")
	}
	must(t, os.WriteFile(container+"/tree/var/cache/new", nil, 0o644))
	must(t, s.Undo())
	if !exists(source+"/new") || exists(container+"/tree/var") {
		t.Error("the directory did not come back, or its parent is left")
	}
}

// TestMovedByCommand checks that a replacement of a moved directory stays in the tree.
func TestMovedByCommand(t *testing.T) {
	s, container := newSupervisor(t)
	source := container + "/cache"
	must(t, os.Mkdir(source, 0o755))
	must(t, s.mount(wire.Mount{Type: "bind", Source: source, Target: "/x"}))
	must(t, os.Rename(container+"/tree/x", container+"/tree/y"))
	must(t, os.Symlink("/etc", container+"/tree/x"))
	if err := s.Undo(); err == nil || !strings.Contains(err.Error(), "the command has moved or replaced the mount on /x") {
		t.Errorf("got %v", err)
	}
	if exists(source) {
		t.Error("something was moved out of the tree")
	}
}

// TestRestore checks which directories come back after a supervisor was killed.
func TestRestore(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, container string)
		want   bool // the directory is at its source afterwards
	}{
		{"where it was put", func(*testing.T, string) {}, true},
		{"moved by the command", func(t *testing.T, c string) {
			must(t, os.MkdirAll(c+"/tree/a/b", 0o755))
			must(t, os.Rename(c+"/tree/x", c+"/tree/a/b/c"))
		}, true},
		{"removed by the command", func(t *testing.T, c string) { must(t, os.RemoveAll(c+"/tree/x")) }, false},
		{"back already", func(t *testing.T, c string) { must(t, os.Rename(c+"/tree/x", c+"/cache")) }, true},
		{"incomplete note", func(t *testing.T, c string) {
			list, err := os.ReadDir(c + "/" + AsideDir)
			must(t, err)
			must(t, os.Truncate(c+"/"+AsideDir+"/"+list[0].Name(), 5))
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, container := newSupervisor(t)
			must(t, os.Mkdir(container+"/cache", 0o755))
			source, err := unix.Open(container+"/cache", unix.O_PATH|unix.O_CLOEXEC, 0)
			must(t, err)
			defer unix.Close(source)
			var st unix.Stat_t
			must(t, unix.Fstat(source, &st))
			must(t, s.note(moved{Source: container + "/cache", Target: container + "/tree/x", Dev: st.Dev, Ino: st.Ino}))
			must(t, os.Rename(container+"/cache", container+"/tree/x"))
			test.change(t, container)
			must(t, s.Undo()) // releases the lock of the note, like the end of the supervisor
			must(t, Restore(container))
			if got := exists(container + "/cache"); got != test.want {
				t.Errorf("at its source: %v", got)
			}
			must(t, Restore(container))
		})
	}
}

// TestNoteFormat checks the fields of notes on disk, which other versions of the program
// may read.
func TestNoteFormat(t *testing.T) {
	text, err := json.Marshal(moved{"/s", "/t", 1, 2})
	if want := `{"Source":"/s","Target":"/t","Dev":1,"Ino":2}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v", text, err)
	}
}

func TestMountCopies(t *testing.T) {
	s, container := newSupervisor(t)
	must(t, os.WriteFile(container+"/file", []byte("text"), 0o640))
	must(t, os.MkdirAll(container+"/dir/sub", 0o750))
	uid, gid := int64(os.Getuid()), int64(os.Getgid())
	for _, m := range []wire.Mount{
		{Type: "bind", Source: container + "/file", Target: "/one", ReadOnly: true},
		{Type: "bind", Source: container + "/dir", Target: "/two", ReadOnly: true},
		{Type: "bind", Source: container, Subpath: "dir/sub", Target: "/three", ReadOnly: true},
		{Type: "file", Target: "/run/secret", Data: "secret", Mode: 0o400, UID: uid, GID: gid},
		{Type: "tmpfs", Target: "/tmp", Mode: 0o1777},
	} {
		must(t, s.mount(m))
	}
	tree := container + "/tree/"
	for path, want := range map[string]string{"one": "text", "run/secret": "secret"} {
		if text, err := os.ReadFile(tree + path); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	for path, want := range map[string]os.FileMode{
		"two/sub": 0o750 | os.ModeDir, "three": 0o750 | os.ModeDir, "run/secret": 0o400, "tmp": 0o777 | os.ModeDir | os.ModeSticky,
	} {
		if info, err := os.Stat(tree + path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info, err, want)
		}
	}
	must(t, s.Undo())
	if list, err := os.ReadDir(tree); err != nil || len(list) > 0 {
		t.Errorf("left %v, %v", list, err)
	}
	if !exists(container+"/file") || !exists(container+"/dir/sub") {
		t.Error("a source is gone")
	}
	if err := s.mount(wire.Mount{Type: "overlay", Target: "/x"}); err == nil || err.Error() != "mounts of type overlay need the right to mount" {
		t.Errorf("an overlay: %v", err)
	}
	must(t, os.Symlink("/etc", container+"/link"))
	if err := s.mount(wire.Mount{Type: "bind", Source: container + "/link", Target: "/x"}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link: %v", err)
	}
}

// TestExecute checks the error for a command of which no file can be executed.
func TestExecute(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/denied", nil, 0o644))
	for _, test := range []struct {
		files []string
		want  string
		errno unix.Errno
	}{
		{[]string{dir + "/a", dir + "/b"}, dir + "/b", unix.ENOENT},
		{[]string{dir + "/a", dir + "/denied", dir + "/b"}, dir + "/denied", unix.EACCES},
		{[]string{dir + "/denied/x", dir + "/a"}, dir + "/a", unix.ENOENT},
	} {
		err := execute(test.files, []string{"x"}, nil)
		f, ok := errors.AsType[*launch.Failure](err)
		if !ok || f.Attempt != test.want || f.Errno != test.errno || !f.Exec {
			t.Errorf("%v: got %+v", test.files, err)
		}
	}
}

func TestStepCapabilities(t *testing.T) {
	set := stepCapabilities()
	for _, c := range []int{unix.CAP_SYS_CHROOT, unix.CAP_MKNOD, unix.CAP_SYS_PTRACE, unix.CAP_SETPCAP} {
		if set&(1<<c) != 0 {
			t.Errorf("capability %d is allowed", c)
		}
	}
	if set&^step.DefaultCapabilities() != 0 || set&(1<<unix.CAP_CHOWN) == 0 {
		t.Errorf("got %x", set)
	}
}
