package step

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

func TestEnvironment(t *testing.T) {
	given := []string{"PATHS=1", "A=1", "A=2"}
	env := Environment(given, "/h")
	if got := strings.Join(env, " "); got != "PATHS=1 A=1 A=2 PATH="+defaultPath+" HOME=/h" {
		t.Errorf("got %s", got)
	}
	if lookupEnv(env, "A") != "2" || lookupEnv(env, "B") != "" {
		t.Error("the last value counts")
	}
	if got := Environment([]string{"HOME=", "PATH=/x"}, "/h"); !slices.Equal(got, []string{"HOME=", "PATH=/x"}) {
		t.Errorf("got %q", got)
	}
}

func TestExecutables(t *testing.T) {
	for _, test := range []struct {
		name, path string
		want       []string
	}{
		{"sh", "/bin:/usr/bin", []string{"/bin/sh", "/usr/bin/sh"}},
		{"sh", "/bin//:.:bin::/", []string{"/bin/sh", "/sh"}},
		{"sh", "", []string{"/sh/"}},
		{"sh", "bin:.", []string{"/sh/"}},
		{"./sh", "/bin", []string{"./sh"}},
		{"/bin/sh", "", []string{"/bin/sh"}},
	} {
		if got := Executables(test.name, []string{"PATH=/no", "PATH=" + test.path}); !slices.Equal(got, test.want) {
			t.Errorf("%s in %q: got %q, want %q", test.name, test.path, got, test.want)
		}
	}
}

func TestExplainExec(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/usr/bin", 0o755))
	must(t, os.MkdirAll(dir+"/work", 0o755))
	must(t, os.WriteFile(dir+"/usr/bin/script", nil, 0o755))
	must(t, os.WriteFile(dir+"/work/run", nil, 0o755))
	root := rootOf(t, dir)
	for _, test := range []struct {
		name  string
		errno unix.Errno
		want  string
	}{
		{"script", unix.ENOENT, `exec "/usr/bin/script": its interpreter or loader is not in the image: no such file or directory`},
		{"missing", unix.ENOENT, `exec: "missing": executable file not found in $PATH`},
		{"./run", unix.ENOENT, `exec "./run": its interpreter or loader is not in the image: no such file or directory`},
		{"/run", unix.ENOENT, `exec: "/run": stat /run: no such file or directory`},
		{"/work/run", unix.ENOTDIR, `exec "/work/run": its interpreter or loader is not in the image: not a directory`},
		{"script", unix.EACCES, `exec "/attempt": permission denied`},
		{"script", unix.ENOEXEC, `exec "/attempt": exec format error`},
	} {
		req := &wire.Request{Args: []string{test.name}, Dir: "/work"}
		err := ExplainExec(root, req, &launch.Failure{Attempt: "/attempt", Exec: true, Errno: test.errno})
		if err == nil || err.Error() != test.want || !errors.Is(err, test.errno) {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
	other := errors.New("other")
	if err := ExplainExec(root, &wire.Request{Args: []string{"x"}}, other); err != other {
		t.Errorf("got %v", err)
	}
}

func TestMakeDir(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("/real/dir", dir+"/link"))
	root := rootOf(t, dir)
	for _, path := range []string{"/link/a/b", "/link/a/b", "/", ""} {
		must(t, MakeDir(root, path))
	}
	st, err := os.Lstat(dir + "/real/dir/a/b")
	if err != nil || !st.IsDir() || st.Mode().Perm() != 0o755&^umask() {
		t.Errorf("got %v, %v", st, err)
	}
	must(t, os.WriteFile(dir+"/file", nil, 0o644))
	if err := MakeDir(root, "/file/x"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

func umask() os.FileMode {
	old := unix.Umask(0)
	unix.Umask(old)
	return os.FileMode(old)
}
