package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOutcome(t *testing.T) {
	t.Parallel()
	root := image(t, nil)
	for _, test := range []struct {
		name, script string
		code         int
		signal       string
		out, err     string
	}{
		{"success", "true", 0, "", "", ""},
		{"output and code", "echo out; echo err >&2; exit 7", 7, "", "out\n", "err\n"},
		{"greatest code", "exit 255", 255, "", "", ""},
		{"signal of a child is a code", "sh -c 'kill -TERM $$'; exit $?", 143, "", "", "Terminated\n"},
		{"standard input is empty", "wc -c", 0, "", "0\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := run(t, spec(t, root, test.script))
			if o.ExitCode != test.code || o.Signal != test.signal || o.out != test.out || o.err != test.err {
				t.Errorf("got %+v, want %+v", o, test)
			}
		})
	}
}

// TestSignal kills the first process of a namespace, which only works from outside.
func TestSignal(t *testing.T) {
	t.Parallel()
	signals := make(chan os.Signal, 1)
	s := spec(t, image(t, nil), "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.01; done")
	out := make(notify)
	s.Stdout, s.Signals = out, signals
	go func() {
		<-out
		signals <- unix.SIGTERM
		<-out
	}()
	r, err := Run(t.Context(), s)
	if err != nil || r.ExitCode != 3 {
		t.Errorf("got %+v, %v", r, err)
	}
	s = spec(t, image(t, nil), "echo ready; sleep 1000")
	s.Stdout, s.Signals = out, signals
	go func() {
		<-out
		signals <- unix.SIGKILL
	}()
	if r, err = Run(t.Context(), s); err != nil || r.ExitCode != 137 || r.Signal != "SIGKILL" {
		t.Errorf("got %+v, %v", r, err)
	}
}

// notify is a writer that sends its input to a channel.
type notify chan string

func (n notify) Write(p []byte) (int, error) {
	n <- string(p)
	return len(p), nil
}

func TestChangesAreInUpperOnly(t *testing.T) {
	t.Parallel()
	root := image(t, func(root string) {
		must(t, os.Mkdir(root+"/data", 0o755))
		must(t, os.WriteFile(root+"/data/old", []byte("old"), 0o644))
	})
	before := entries(t, root)
	s := spec(t, root, "echo new >> /data/old; echo x > /data/made; rm /bin/yes")
	run(t, s)
	if got, want := entries(t, s.Upper), []string{"bin", "bin/yes", "data", "data/made", "data/old"}; !slices.Equal(got, want) {
		t.Errorf("upper has %q, want %q", got, want)
	}
	if after := entries(t, root); !slices.Equal(before, after) {
		t.Errorf("lower tree changed: %q", after)
	}
}

// listing returns the relative paths in a folder.
func entries(t testing.TB, dir string) (out []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); rel != "." {
			out = append(out, rel)
		}
		return err
	}))
	return out
}

// TestUpperStaysEmpty checks that mount points are never in the upper directory, whether or
// not the image has them, and even if they are removed.
func TestUpperStaysEmpty(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	must(t, os.WriteFile(outside+"/file", []byte("mounted"), 0o644))
	for _, test := range []struct {
		name string
		edit func(root string)
		more func(s *Spec)
	}{
		{"nothing there", nil, nil},
		{"no etc", func(root string) { must(t, os.RemoveAll(root+"/etc")) }, nil},
		{"dangling resolv.conf", func(root string) {
			must(t, os.Symlink("../run/systemd/resolve/stub-resolv.conf", root+"/etc/resolv.conf"))
		}, nil},
		{"all there", func(root string) {
			for _, d := range []string{"dev", "proc", "sys"} {
				must(t, os.Mkdir(root+"/"+d, 0o755))
			}
			must(t, os.WriteFile(root+"/etc/hosts", nil, 0o644))
			must(t, os.WriteFile(root+"/etc/resolv.conf", nil, 0o644))
		}, nil},
		{"removed by a layer", func(root string) {
			must(t, unix.Mknod(root+"/etc/hosts", unix.S_IFCHR, 0))
			must(t, unix.Mknod(root+"/sys", unix.S_IFCHR, 0))
			must(t, unix.Setxattr(root+"/etc", "user.overlay.opaque", []byte("y"), 0))
		}, nil},
		{"mounts", func(root string) { must(t, os.Symlink("/a/b", root+"/link")) }, func(s *Spec) {
			s.Mounts = []Mount{
				{Type: "bind", Source: outside + "/file", Target: "/x/y/file"},
				{Type: "bind", Source: outside, Target: "/link/dir"},
				{Type: "tmpfs", Target: "/t"},
				{Type: "bind", Source: outside + "/file", Target: "/t/in/file"},
			}
		}},
	} {
		for _, text := range []bool{false, true} {
			for _, stubs := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, text %v, stubs %v", test.name, text, stubs), func(t *testing.T) {
					root := image(t, test.edit)
					s := spec(t, root, "cat /etc/hosts /etc/resolv.conf > /dev/null && test -d /proc/self && test -c /dev/null && test -d /sys/kernel")
					if test.more != nil {
						test.more(&s)
						s.Args[2] += " && cat /x/y/file /a/b/dir/file /t/in/file"
					}
					if !stubs {
						s.MountPoints = ""
					}
					before := stamp(t, root)
					o, err := trySpec(s, text)
					if err != nil || o.ExitCode != 0 {
						t.Fatalf("%+v, %v", o, err)
					}
					if test.more != nil && o.out != "mountedmountedmounted" {
						t.Errorf("output %q", o.out)
					}
					if left := entries(t, s.Upper); len(left) > 0 {
						t.Errorf("upper has %q", left)
					}
					if stubs {
						left := entries(t, s.MountPoints)
						if want := []string{"base", "base/dev", "base/etc", "base/etc/hosts", "base/etc/resolv.conf", "base/proc", "base/sys"}; !slices.Equal(left, want) {
							t.Errorf("stubs: %q", left)
						}
					}
					if after := stamp(t, root); after != before {
						t.Errorf("the image's times changed: %s, before %s", after, before)
					}
				})
			}
		}
	}
	if left := entries(t, outside); !slices.Equal(left, []string{"file"}) {
		t.Errorf("the mounted folder has %q", left)
	}
}

func stamp(t testing.TB, root string) string {
	t.Helper()
	var out string
	for _, name := range []string{"", "/etc"} {
		if info, err := os.Stat(root + name); err == nil {
			out += fmt.Sprint(info.ModTime().UnixNano(), info.Mode(), " ")
		}
	}
	return out
}

// trySpec is like try. If text is set, overlays are mounted as on older kernels.
func trySpec(s Spec, text bool) (outcome, error) {
	b := new(Sandbox)
	b.optionText = text
	defer b.Close()
	return tryIn(b, s)
}

// TestMountPointParents checks that a directory in which a mount point was made has its old
// attributes, also after it is copied up.
func TestMountPointParents(t *testing.T) {
	t.Parallel()
	root := image(t, func(root string) {
		must(t, os.Mkdir(root+"/run", 0o755))
		must(t, os.Chown(root+"/run", 7, 8))
		must(t, os.Chmod(root+"/run", 0o751|os.ModeSetgid))
		must(t, os.Chtimes(root+"/run", time.Unix(1e9, 5), time.Unix(1e9, 5)))
		must(t, os.Symlink("/run/resolv.conf", root+"/etc/resolv.conf"))
	})
	s := spec(t, root, "stat -c '%a %u %g %Y' /run; chmod 700 /run/; stat -c '%a %u %g' /run; ls /run")
	o := run(t, s)
	if want := "2751 7 8 1000000000\n700 7 8\nresolv.conf\n"; o.out != want {
		t.Errorf("got %q, want %q", o.out, want)
	}
	if got := entries(t, s.Upper); !slices.Equal(got, []string{"run"}) {
		t.Errorf("upper has %q", got)
	}
}

func TestOneDeviceNumber(t *testing.T) {
	t.Parallel()
	o := run(t, spec(t, image(t, nil), "stat -c %d / /bin /bin/busybox /etc/passwd; echo x > /f; stat -c %d /f"))
	numbers := strings.Fields(o.out)
	if len(slices.Compact(numbers)) != 1 {
		t.Errorf("device numbers %q", numbers)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("OF_THE_HOST", "secret")
	root := image(t, nil)
	for _, test := range []struct {
		name string
		env  []string
		user string
		want []string
	}{
		{"defaults", nil, "", []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}},
		{"home of a user", []string{"PATH=/bin"}, "ada", []string{"PATH=/bin", "HOME=/home/ada"}},
		{"home of a number", []string{"PATH=/bin"}, "1000", []string{"PATH=/bin", "HOME=/home/ada"}},
		{"home of nobody", []string{"PATH=/bin"}, "4711", []string{"PATH=/bin", "HOME=/"}},
		{"as given", []string{"B=2", "A=", "PATH=/x", "HOME=", "A B=\xff\n"}, "", []string{"B=2", "A=", "PATH=/x", "HOME=", "A B=\xff\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := spec(t, root, "")
			s.Args, s.Env, s.User = []string{"/bin/cat", "/proc/self/environ"}, test.env, test.user
			o := run(t, s)
			if got := strings.Split(strings.TrimSuffix(o.out, "\x00"), "\x00"); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestArgumentsAreExact(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "")
	s.Args = []string{"/bin/cat", "/proc/self/cmdline", "", "\xfe", "a\nb"}
	s.Args = append([]string{"sh", "-c", `cat /proc/$$/cmdline; true`}, s.Args[2:]...)
	o := run(t, s)
	if want := strings.Join(s.Args, "\x00") + "\x00"; o.out != want {
		t.Errorf("got %q, want %q", o.out, want)
	}
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	root := image(t, func(root string) {
		must(t, os.MkdirAll(root+"/real/deep", 0o755))
		must(t, os.Symlink("/real", root+"/link"))
		must(t, os.WriteFile(root+"/file", nil, 0o644))
	})
	for _, test := range []struct {
		dir     string
		make    bool
		want    string
		wantErr string
	}{
		{dir: "", want: "/"},
		{dir: "/link/deep", want: "/real/deep"},
		{dir: "/missing", wantErr: `enter the working directory "/missing": no such file or directory`},
		{dir: "/file", wantErr: `enter the working directory "/file": not a directory`},
		{dir: "/proc/self/fd/7", wantErr: `enter the working directory "/proc/self/fd/7": no such file or directory`},
		{dir: "relative", wantErr: `working directory "relative" is not absolute`},
		{dir: "/new/folder", make: true, want: "/new/folder"},
		{dir: "/link/new", make: true, want: "/real/new"},
	} {
		t.Run(test.dir, func(t *testing.T) {
			s := spec(t, root, "readlink /proc/self/cwd")
			s.Dir, s.MakeDir = test.dir, test.make
			o, err := try(s)
			if test.wantErr != "" {
				if err == nil || err.Error() != test.wantErr {
					t.Errorf("error %v, want %s", err, test.wantErr)
				}
				return
			}
			must(t, err)
			if strings.TrimSpace(o.out) != test.want {
				t.Errorf("got %q %q, want %q", o.out, o.err, test.want)
			}
		})
	}
}

func TestCannotStart(t *testing.T) {
	t.Parallel()
	root := image(t, func(root string) {
		must(t, os.WriteFile(root+"/bin/script", []byte("#!/no/such/shell\n"), 0o755))
		must(t, os.WriteFile(root+"/bin/broken", []byte("\x7fELF no program"), 0o755))
		must(t, os.WriteFile(root+"/bin/plain", []byte("x"), 0o644))
	})
	for _, test := range []struct {
		args []string
		want string
		is   error
	}{
		{[]string{"foo"}, `exec: "foo": executable file not found in $PATH`, fs.ErrNotExist},
		{[]string{"/bin/foo"}, `exec: "/bin/foo": stat /bin/foo: no such file or directory`, fs.ErrNotExist},
		{[]string{"/etc/passwd/x"}, `exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory`, unix.ENOTDIR},
		{[]string{"/bin/plain"}, `exec "/bin/plain": permission denied`, fs.ErrPermission},
		{[]string{"plain"}, `exec "/bin/plain": permission denied`, fs.ErrPermission},
		{[]string{"/etc"}, `exec "/etc": permission denied`, fs.ErrPermission},
		{[]string{"broken"}, `exec "/bin/broken": exec format error`, unix.ENOEXEC},
		{[]string{"script"}, `exec "/bin/script": its interpreter or loader is not in the image: no such file or directory`, nil},
		{[]string{"/bin/script"}, `exec "/bin/script": its interpreter or loader is not in the image: no such file or directory`, nil},
		{nil, "no command to run", nil},
		{[]string{"a\x00b"}, `"a\x00b" has a zero byte`, nil},
	} {
		t.Run(fmt.Sprint(test.args), func(t *testing.T) {
			s := spec(t, root, "")
			s.Args = test.args
			_, err := try(s)
			if err == nil || err.Error() != test.want {
				t.Errorf("error %v, want %s", err, test.want)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v is no %v", err, test.is)
			}
		})
	}
}

func TestPathOfRelativeFoldersIsIgnored(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "")
	s.Args, s.Env, s.Dir = []string{"true"}, []string{"PATH=:.:bin"}, "/bin"
	if _, err := try(s); err == nil || !strings.Contains(err.Error(), "not found in $PATH") {
		t.Errorf("error %v", err)
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	root := image(t, nil)
	for _, test := range []struct{ user, want, wantErr string }{
		{"", "0 0 0 10", ""},
		{"root", "0 0 0 10", ""},
		{"0:0", "0 0 0", ""},
		{"root:root", "0 0 0", ""},
		{"ada", "1000 1001 1001 50 10", ""},
		{"1000", "1000 1001 1001 50 10", ""},
		{"ada:staff", "1000 50 50", ""},
		{"ada:60", "1000 60 60", ""},
		{"1234:60", "1234 60 60", ""},
		{"1234", "1234 0 0", ""},
		{"eve", "", "unable to find user eve: no matching entries in passwd file"},
		{"ada:nobody", "", "unable to find group nobody: no matching entries in group file"},
		{"-1", "", "uids and gids must be in range 0-2147483647"},
	} {
		t.Run(test.user, func(t *testing.T) {
			s := spec(t, root, "sed -n 's/^Uid:\\t\\([0-9]*\\).*/\\1/p; s/^Gid:\\t\\([0-9]*\\).*/\\1/p; s/^Groups:\\t\\(.*\\)/\\1/p' /proc/self/status")
			s.User = test.user
			o, err := try(s)
			if test.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), test.wantErr) {
					t.Errorf("error %v, want %s", err, test.wantErr)
				}
				return
			}
			must(t, err)
			got := strings.Fields(o.out)
			want := strings.Fields(test.want)
			slices.Sort(got[2:])
			slices.Sort(want[2:])
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestOutputIsNotClipped(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "dd if=/dev/zero bs=65536 count=512 2>/dev/null; echo end >&2")
	var count counter
	s.Stdout = &count
	if r, err := Run(t.Context(), s); err != nil || r.ExitCode != 0 || count != 32<<20 {
		t.Errorf("got %d bytes, %+v, %v", count, r, err)
	}
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// failing is a writer that fails.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestFailingWriter(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "dd if=/dev/zero bs=65536 count=64")
	s.Stdout = failing{}
	if _, err := Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("error %v", err)
	}
}

func TestFilesArePassedOn(t *testing.T) {
	in, err := os.Open("/etc/hostname")
	must(t, err)
	defer in.Close()
	out, err := os.Create(t.TempDir() + "/out")
	must(t, err)
	defer out.Close()
	s := spec(t, image(t, nil), "cat; stat -L -c %F /proc/self/fd/1")
	s.Stdin, s.Stdout, s.Interactive = in, out, true
	r, err := Run(t.Context(), s)
	must(t, err)
	want, err := os.ReadFile("/etc/hostname")
	must(t, err)
	got, err := os.ReadFile(out.Name())
	must(t, err)
	if r.ExitCode != 0 || string(got) != string(want)+"regular file\n" {
		t.Errorf("got %q, code %d", got, r.ExitCode)
	}
}
