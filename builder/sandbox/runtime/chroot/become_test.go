package chroot

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
)

func TestEnterCgroups(t *testing.T) {
	t.Parallel()
	var files []int
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		fd, err := unix.Open(dir+"/"+name, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		must(t, err)
		defer unix.Close(fd)
		files = append(files, fd)
	}
	must(t, enterCgroups(files))
	for _, name := range []string{"a", "b"} {
		if text, err := os.ReadFile(dir + "/" + name); err != nil || string(text) != "0" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if err := enterCgroups([]int{-1}); !errors.Is(err, unix.EBADF) || !strings.HasPrefix(err.Error(), "enter the step's cgroup: ") {
		t.Errorf("got %v", err)
	}
}

func TestSetUlimits(t *testing.T) {
	t.Parallel()
	must(t, setUlimits(nil))
	err := setUlimits([]wire.Ulimit{{Name: "bogus", Resource: 9999, Soft: 1, Hard: -1}})
	if !errors.Is(err, unix.EINVAL) || err.Error() != "set the ulimit bogus to 1:-1: "+unix.EINVAL.Error() {
		t.Errorf("got %v", err)
	}
	if err := setUlimits([]wire.Ulimit{{Name: "core", Resource: unix.RLIMIT_CORE, Soft: 2, Hard: 1}}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a soft limit over the hard one: %v", err)
	}
}

// TestBecomeErrors checks requests that fail before the process changes.
func TestBecomeErrors(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	must(t, os.Mkdir(tree+"/etc", 0o755))
	must(t, os.WriteFile(tree+"/etc/passwd", []byte("app:x:10:4294967295::/:\n"), 0o644))
	for name, test := range map[string]struct {
		req  wire.Request
		want string
	}{
		"a missing tree":  {wire.Request{Root: tree + "/gone"}, "open the tree: " + unix.ENOENT.Error()},
		"a file":          {wire.Request{Root: tree + "/etc/passwd"}, "open the tree: " + unix.ENOTDIR.Error()},
		"an unknown user": {wire.Request{Root: tree, User: "nobody-here"}, `unable to find user nobody-here`},
		"an invalid id":   {wire.Request{Root: tree, User: "-7"}, "uids and gids must be in range 0-2147483647"},
		"an invalid gid":  {wire.Request{Root: tree, User: "app"}, `user "app" in /etc/passwd and /etc/group of the image`},
		"a cgroup":        {wire.Request{Root: tree, CgroupFiles: []string{tree + "/cgroup.procs"}}, ""},
	} {
		if err := become(&test.req); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
	if err := enterTree(-1, "/"); err != unix.EBADF {
		t.Errorf("a closed tree: %v", err)
	}
}

// TestSocketPair checks that both ends carry messages and end with the other.
func TestSocketPair(t *testing.T) {
	t.Parallel()
	ours, theirs, err := socketPair()
	must(t, err)
	defer ours.Close()
	want := wire.Request{Args: []string{"a", "\xff"}, Root: "/tree"}
	must(t, wire.Send(ours, &want))
	var got wire.Request
	must(t, wire.Receive(theirs, &got))
	if strings.Join(got.Args, " ") != "a \xff" || got.Root != "/tree" {
		t.Errorf("got %+v", got)
	}
	theirs.Close()
	var reply wire.Reply
	if err := wire.Receive(ours, &reply); err == nil {
		t.Error("no error after the end")
	}
}

// TestRestoreSeveral checks that a directory that cannot be moved back does not keep others
// from it, and that unfinished notes are ignored.
func TestRestoreSeveral(t *testing.T) {
	t.Parallel()
	container := t.TempDir()
	must(t, Restore(container)) // no notes, not even their folder
	must(t, os.MkdirAll(container+"/"+AsideDir, 0o700))
	must(t, os.MkdirAll(container+"/tree", 0o700))
	note := func(name, source string) {
		t.Helper()
		must(t, os.Mkdir(container+"/tree/"+name, 0o755))
		var st unix.Stat_t
		must(t, unix.Lstat(container+"/tree/"+name, &st))
		s := &supervisor{aside: container + "/" + AsideDir}
		for range len(name) { // notes are numbered by the changes before them
			s.OnUndo(func() error { return nil })
		}
		must(t, s.note(moved{Source: source, Target: container + "/tree/" + name, Dev: st.Dev, Ino: st.Ino}))
		must(t, s.Undo())
	}
	note("a", container+"/gone/a") // its old parent does not exist
	note("bb", container+"/bb")
	note("ccc", container+"/ccc")
	must(t, os.WriteFile(container+"/ccc", nil, 0o644)) // the place is taken
	must(t, os.WriteFile(container+"/"+AsideDir+"/"+movedPrefix+"9.new", []byte("{"), 0o600))
	err := Restore(container)
	if !errors.Is(err, unix.ENOENT) || !errors.Is(err, unix.EEXIST) {
		t.Errorf("got %v", err)
	}
	for name, want := range map[string]bool{"/bb": true, "/tree/a": true, "/tree/bb": false, "/tree/ccc": true} {
		if exists(container+name) != want {
			t.Errorf("%s exists: %v", name, !want)
		}
	}
}
