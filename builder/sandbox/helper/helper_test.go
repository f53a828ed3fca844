package helper

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
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

func full() *Request {
	return &Request{
		Lowers: []string{"/a", "", "/b\xff\n"}, Upper: "/u", Work: "/w", Root: "/r", Stubs: "/s",
		Mounts: []Mount{
			{Type: "tmpfs", Target: "/t", Size: 1 << 40, Mode: 0o1777},
			{
				Type: "overlay", Source: "/x", Target: "/y", ReadOnly: true, Lowers: []string{"/l", "\xff"}, Upper: "/up", Work: "/wo",
				Subpath: "/s", Size: -1, Data: "\x00", UID: 1, GID: 2, Mode: 3,
			},
		},
		Args: []string{"sh", "-c", ""}, Env: []string{"A=\xfe"}, Dir: "/d", MakeDir: true, User: "u:g",
		Groups: []string{"/sys/fs/cgroup/x/cgroup.procs"}, Hostname: "h", HostsFile: "127.0.0.1\n", ResolvConf: "\x00", NoNetwork: true, ShmSize: 5,
		Limits:      []Limit{{"nofile", 1, 2, -1}},
		Interactive: true, Insecure: true, OptionText: true, Probe: "/p",
	}
}

func TestWire(t *testing.T) {
	for _, want := range []*Request{{}, full()} {
		var b bytes.Buffer
		must(t, Send(&b, want))
		got := new(Request)
		must(t, Receive(&b, got))
		if fmt.Sprintf("%#v", *got) != fmt.Sprintf("%#v", *want) {
			t.Errorf("got %#v, want %#v", *got, *want)
		}
	}
}

// TestWireHasAllFields fails when a field is added that does not cross the socket.
func TestWireHasAllFields(t *testing.T) {
	var b bytes.Buffer
	must(t, Send(&b, full()))
	got := new(Request)
	must(t, Receive(&b, got))
	for _, v := range []reflect.Value{reflect.ValueOf(*got), reflect.ValueOf(got.Mounts[1])} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("field %s is lost", v.Type().Field(i).Name)
			}
		}
	}
	reply := Reply{"e", 3, "a\x00", 1 << 31}
	must(t, Send(&b, &reply))
	var back Reply
	if must(t, Receive(&b, &back)); back != reply {
		t.Errorf("got %+v", back)
	}
}

func FuzzReceive(f *testing.F) {
	var b bytes.Buffer
	must(f, Send(&b, full()))
	f.Add(b.Bytes())
	f.Add([]byte{4, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4 {
			// The length is the sender's; memory of that size is taken before it fails.
			text[2], text[3] = 0, 0
		}
		var r Request
		if Receive(bytes.NewReader(text), &r) != nil {
			return
		}
		var out bytes.Buffer
		must(t, Send(&out, &r))
		var again Request
		must(t, Receive(&out, &again))
		if fmt.Sprintf("%#v", r) != fmt.Sprintf("%#v", again) {
			t.Errorf("%#v became %#v", r, again)
		}
	})
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
		got, found, err := resolve(root, test.path)
		if got != test.want || found != test.found || !errors.Is(err, test.err) {
			t.Errorf("%q: got %q, %v, %v, want %q, %v, %v", test.path, got, found, err, test.want, test.found, test.err)
		}
	}
}

// FuzzResolve compares with the kernel's own walk where that finds something.
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
		got, found, err := resolve(root, path)
		fd, kernelErr := open(root, path, unix.O_PATH)
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

// TestOpenWhileMounting: the kernel refuses .. for the moment when something is
// mounted elsewhere.
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
		fd, err := open(root, "a/b/../../up/b/back/abs/c", unix.O_PATH)
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
		if fd, err := open(rootOf(t, dir), path, unix.O_PATH); err == nil {
			unix.Close(fd)
			t.Errorf("%s was opened", path)
		}
	}
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
		a, err := lookUp(rootOf(t, dir), spec)
		if err == nil && (len(a.groups) == 0 || a.uid < 0 || a.gid < 0 || a.uid >= math.MaxUint32 || a.gid >= math.MaxUint32) {
			t.Errorf("got %+v", a)
		}
	})
}

// TestIDsThatAreNone: 32 bits of these are other ids, root's among them.
func TestIDsThatAreNone(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/etc", 0o755))
	must(t, os.WriteFile(dir+"/etc/passwd", []byte("big:x:4294967296:5::/:\nfive:x:8589934597:5::/:\nsame:x:4294967295:5::/:\n"+
		"group:x:5:4294967296::/:\nmember:x:5:5::/:\nlast:x:4294967294:4294967294::/:\n"), 0o644))
	must(t, os.WriteFile(dir+"/etc/group", []byte("all:x:4294967296:member\n"), 0o644))
	root := rootOf(t, dir)
	for _, spec := range []string{"big", "five", "same", "group", "member", "last:all", "4294967295:0", "0:4294967295", "big:5"} {
		if a, err := lookUp(root, spec); err == nil || !strings.Contains(err.Error(), "is no id: these are between 0 and 4294967294") {
			t.Errorf("%s: %+v, %v", spec, a, err)
		}
	}
	if a, err := lookUp(root, "last"); err != nil || a.uid != 4294967294 || a.gid != 4294967294 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestMaps(t *testing.T) {
	const text = "         0       1000          1\n         1     100000      65536\n"
	for id, want := range map[int64]bool{0: true, 1: true, 65536: true, 65537: false} {
		if maps(text, id) != want {
			t.Errorf("%d: %v", id, !want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	c := steps{req: &Request{Env: []string{"PATHS=1", "A=1", "A=2"}}, as: account{home: "/h"}}
	env := c.environment()
	if got := strings.Join(env, " "); got != "PATHS=1 A=1 A=2 PATH="+defaultPath+" HOME=/h" {
		t.Errorf("got %s", got)
	}
	if valueOf(env, "A") != "2" || valueOf(env, "B") != "" {
		t.Error("the last value counts")
	}
}
