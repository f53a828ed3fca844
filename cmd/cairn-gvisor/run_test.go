package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"github.com/cairn-build/cairn/layer/listing"
)

// TestRun runs commands in one kernel and checks their output.
func TestRun(t *testing.T) {
	p := start(t)
	p.base()
	var info unix.Sysinfo_t
	must(t, unix.Sysinfo(&info))
	memory := uint64(info.Totalram) * uint64(info.Unit)
	for _, name := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, _ := os.ReadFile(name)
		if limit, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil {
			memory = min(memory, limit)
		}
	}
	user := func(u string) func(*guest.Run) { return func(r *guest.Run) { r.User = u } }
	for _, test := range []struct {
		name, script, want string
		edit               func(*guest.Run)
	}{
		{name: "root", script: "id -u; echo $HOME; echo $PATH", want: "0\n/root\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"},
		{name: "user", script: "id; echo $HOME", want: "uid=33(web) gid=34(web) groups=34(web),77(extra)\n/srv\n", edit: user("web")},
		{name: "groups", script: "id -G; grep Groups /proc/self/status", want: "34 5 77\nGroups:\t5 34 77 \n", edit: func(r *guest.Run) { r.User, r.Groups = "web", []string{"extra", "5"} }},
		{name: "capabilities", script: "chown 5 /owned; grep CapEff /proc/self/status", want: "chown: /owned: Operation not permitted\nCapEff:\t00000000a80425fa\n", edit: func(r *guest.Run) { r.DropCaps = 1 << unix.CAP_CHOWN }},
		{name: "hosts", script: "ls /etc", want: "group\npasswd\nresolv.conf\n", edit: func(r *guest.Run) { r.NoHosts = true }},
		{name: "numbers", script: "id -u; id -g; id -G", want: "5\n6\n6\n", edit: user("5:6")},
		{name: "setuid", script: "/bin/helper id; /bin/helper-setuid id", want: "33 33\n33 0\n", edit: user("web")},
		{name: "permissions", script: "ls /secret; cat /owned", want: "ls: can't open '/secret': Permission denied\ncat: can't open '/owned': Permission denied\n", edit: user("web")},
		{name: "owners", script: "stat -c '%u:%g %a %Y' /owned; chown 33:34 /owned; stat -c %u:%g /owned", want: "1234:1234 640 1000000000\n33:34\n"},
		{name: "exact time", script: "stat -c %y /etc/group", want: "2001-09-09 01:46:40.000000007 +0000\n", edit: func(r *guest.Run) { r.Layers = append(r.Layers, "times") }},
		{name: "proc", script: "readlink /proc/self/exe; cat /proc/1/cmdline | grep -c sh; set -- /proc/[0-9]*; echo $#", want: "/bin/busybox\n1\n1\n"},
		{name: "names", script: "hostname; cat /etc/hosts /etc/resolv.conf", want: "box\n127.0.0.1 localhost\nnameserver 192.0.2.1\n"},
		{name: "directory", script: "cd . && echo $PWD", want: "/a/b\n", edit: func(r *guest.Run) { r.Dir, r.MakeDir = "/a/b", true }},
		{name: "environment", script: "echo $A-$B", want: "1-\n", edit: func(r *guest.Run) { r.Env = []string{"A=1"} }},
		{name: "streams", script: "echo a >/dev/stdout; echo b >&2; echo c >/dev/stderr", want: "a\nb\nc\n", edit: user("web")},
		{name: "owner of streams", script: "stat -L -c '%u %g %a' /dev/stderr", want: "33 0 600\n", edit: user("web")},
		{name: "interfaces", script: "cd /sys/class/net; ls; cat lo/address lo/flags lo/ifindex lo/operstate lo/type; (: >lo/mtu) 2>/dev/null || echo read-only",
			want: "lo\n00:00:00:00:00:00\n0x9\n1\nunknown\n772\nread-only\n", edit: func(r *guest.Run) { r.NoNetwork = true }},
		{name: "no network", script: "ip -o addr | grep -c .; ip -o addr | grep -o 127.0.0.1", want: "2\n127.0.0.1\n", edit: func(r *guest.Run) { r.NoNetwork = true }},
		{name: "limits", script: "ulimit -n; ulimit -c", want: "100\n0\n", edit: func(r *guest.Run) {
			r.Ulimits = []wire.Ulimit{{Name: "nofile", Resource: unix.RLIMIT_NOFILE, Soft: 100, Hard: 100}, {Name: "core", Resource: unix.RLIMIT_CORE}}
		}},
		{name: "attributes", script: "/bin/helper getxattr /capable security.capability", want: "\"\\x01\\x00\"\n", edit: func(r *guest.Run) { r.Layers = append(r.Layers, "capable") }},
		{name: "devices", script: "echo x >/dev/null; cat </dev/null; ls -l /dev/zero | grep -c '1,'; ls /dev/shm; stat -c %a /dev/shm", want: "1\n1777\n"},
		{name: "pipes", script: "for i in 1 2 3; do echo $i; done | while read x; do (exit $x); echo $(echo $x) $?; done", want: "1 1\n2 2\n3 3\n"},
		{name: "memory", script: "grep MemTotal /proc/meminfo | grep -o '[0-9]*'", want: strconv.FormatUint(memory>>10, 10) + "\n"},
		{name: "machine", script: "ls -d /work /home /proc/kcore /sys/fs/cgroup/cgroup.procs 2>/dev/null; touch /sys/x /proc/x 2>/dev/null; mknod /d b 8 0 && cat /d", want: "cat: can't open '/d': No such device or address\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			p.addLayer("times", "", nil, guest.Time{Path: "etc/group", Sec: 1e9, Nsec: 7})
			p.addLayer("capable", "", []listing.Entry{{Path: "capable", Type: listing.TypeFile, XAttrs: map[string]string{"security.capability": "\x01\x00"}}})
			r := p.run(test.script, test.edit)
			if r.err != nil || r.out != test.want {
				t.Errorf("got %q, %v, want %q", r.out, r.err, test.want)
			}
		})
	}
	p.t = t
}

// TestStatus checks wait statuses.
func TestStatus(t *testing.T) {
	p := start(t)
	p.base()
	for script, want := range map[string]unix.WaitStatus{
		"true": 0, "exit 3": 3 << 8, "kill -9 $$": 9, "sleep 100000 & exit 4": 4 << 8, "sh -c 'kill -11 $$'; exit $?": 139 << 8,
	} {
		if r := p.run(script, nil); r.err != nil || r.status != want {
			t.Errorf("%s: status %x, %v, want %x", script, r.status, r.err, want)
		}
	}
}

// TestLimits runs commands that exceed their limits, and others in the same kernel that do
// not.
func TestLimits(t *testing.T) {
	p := start(t)
	p.base()
	for _, test := range []struct {
		script    string
		edit      func(*guest.Run)
		out, want string
		status    unix.WaitStatus
	}{
		{script: "for i in 1 2 3 4 5 6 7 8 9; do sleep 100000 & done 2>/dev/null", want: "processes", status: 2 << 8, edit: func(r *guest.Run) { r.Processes = 5 }},
		{script: "echo $(echo a); cat /proc/self/cgroup", out: "a\n0::/\n", edit: func(r *guest.Run) { r.Processes = 5 }},
		{script: "exec /bin/helper fill 100000", want: "memory", status: 9, edit: func(r *guest.Run) { r.Memory = 64 << 20 }},
		{script: "sleep 100000 & /bin/helper fill 100000; exit $(($? + 1))", out: "Killed\n", want: "memory", status: 138 << 8, edit: func(r *guest.Run) { r.Memory = 64 << 20 }},
		{script: "exec /bin/helper fill 2", edit: func(r *guest.Run) { r.Memory = 64 << 20 }},
	} {
		r := p.run(test.script, test.edit)
		if r.err != nil || r.limit != test.want || r.status != test.status || r.out != test.out {
			t.Errorf("%s: limit %q, status %x, %v, output %q", test.script, r.limit, r.status, r.err, r.out)
		}
	}
}

// TestSignals sends a signal to a command and then ends its connection.
func TestSignals(t *testing.T) {
	p := start(t)
	p.base()
	in, out, err := os.Pipe()
	must(t, err)
	defer in.Close()
	run := guest.Run{
		Layers: []string{"base"}, Upper: t.TempDir(), Scratch: p.dir,
		Args: []string{"/bin/sh", "-c", "trap 'echo got' TERM; echo ready; while :; do sleep 100000 & wait; done"},
	}
	conn := p.send(&guest.Request{Version: guest.Version, Kind: guest.KindRun, Run: run}, [3]*os.File{nil, out, nil})
	out.Close()
	want := func(line string) {
		t.Helper()
		b := make([]byte, 100)
		if n, err := in.Read(b); err != nil || string(b[:n]) != line {
			t.Fatalf("read %q, %v", b[:n], err)
		}
	}
	want("ready\n")
	_, err = conn.Write([]byte{byte(unix.SIGTERM)})
	must(t, err)
	want("got\n")
	must(t, unix.Shutdown(int(conn.Fd()), unix.SHUT_WR))
	var reply guest.Reply
	must(t, wire.Receive(conn, &reply))
	if status := unix.WaitStatus(reply.Status); !status.Signaled() || status.Signal() != unix.SIGKILL {
		t.Errorf("status %x", reply.Status)
	}
}

// TestFailures checks the errors of requests that cannot be carried out. The program must
// answer others afterwards.
func TestFailures(t *testing.T) {
	p := start(t)
	p.base()
	args := func(list ...string) func(*guest.Run) { return func(r *guest.Run) { r.Args = list } }
	mount := func(m guest.Mount) func(*guest.Run) { return func(r *guest.Run) { r.Mounts = []guest.Mount{m} } }
	for _, test := range []struct {
		edit  func(*guest.Run)
		want  string
		errno unix.Errno
	}{
		{args("none"), `exec: "none": executable file not found in $PATH`, unix.ENOENT},
		{args("/none"), `exec: "/none": stat /none: no such file or directory`, unix.ENOENT},
		{args("/owned"), `exec "/owned": permission denied`, unix.EACCES},
		{func(r *guest.Run) { r.User = "nobody" }, "unable to find user nobody: no matching entries in passwd file", 0},
		{func(r *guest.Run) { r.Dir = "/none" }, `enter the working directory "/none": no such file or directory`, unix.ENOENT},
		{func(r *guest.Run) { r.Layers = []string{"x"} }, `the layer "x" is not known`, 0},
		{mount(guest.Mount{Type: "x", Target: "/y"}), `mount on /y: mounts of the type "x" are not known`, 0},
		{mount(guest.Mount{Type: guest.MountTmpfs, Target: "/"}), "mount on /: the root directory cannot be a mount point: invalid argument", unix.EINVAL},
		{mount(guest.Mount{Type: guest.MountTmpfs, Target: "/proc/x"}), "mount on /proc/x: /proc cannot be a mount point: invalid argument", unix.EINVAL},
		{mount(guest.Mount{Type: guest.MountTmpfs, Target: "/owned"}), "mount on /owned: not a directory: the target is a file, and a directory cannot be mounted on it: choose another target", unix.ENOTDIR},
		{mount(guest.Mount{Type: guest.MountLayers, Target: "/y", Layers: []string{"base"}, Subpath: "/none"}), "mount on /y: /none: no such file or directory", unix.ENOENT},
	} {
		r := p.run("true", test.edit)
		if r.err == nil || r.err.Error() != test.want || test.errno != 0 && !errors.Is(r.err, test.errno) {
			t.Errorf("got %v, want %s", r.err, test.want)
		}
	}
	reply, _ := p.ask(&guest.Request{Version: "0", Kind: guest.KindProbe}, [3]*os.File{})
	want := `cairn-gvisor has version ` + guest.Version + ` of the messages and cairn has "0": install both from one release`
	if err := reply.Err(); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if r := p.run("echo on", nil); r.out != "on\n" {
		t.Errorf("got %q, %v", r.out, r.err)
	}
}

// TestChanges checks the changes of a command in detail.
func TestChanges(t *testing.T) {
	p := start(t)
	p.base()
	tree := t.TempDir()
	must(t, os.MkdirAll(tree+"/dir/sub", 0o700))
	for _, name := range []string{"dir/a", "dir/sub/b", "gone"} {
		must(t, os.WriteFile(tree+"/"+name, []byte(name), 0o600))
	}
	p.addLayer("more", tree, []listing.Entry{
		{Path: "dir", Type: listing.TypeDir, Mode: 0o750, UID: 1, GID: 2}, {Path: "dir/sub", Type: listing.TypeDir, Mode: 0o755},
		{Path: "dir/a", Type: listing.TypeFile, Mode: 0o604, UID: 7, Size: 5, XAttrs: map[string]string{"user.x": "y"}},
		{Path: "dir/sub/b", Type: listing.TypeFile, Mode: 0o644, Size: 9},
		{Path: "gone", Type: listing.TypeFile, Mode: 0o644, Size: 4},
		{Path: "etc/group", Type: listing.TypeWhiteout},
	})
	r := p.run(`set -e
		ls /etc/group 2>/dev/null && exit 1
		rm /gone; echo more >>/dir/a; rm -r /dir/sub; mkdir /dir/sub; chmod 2700 /dir/sub; chown 5:6 /dir/sub
		mkdir /new; cd /new; echo one >f; ln f g; ln -s /none l; mknod c c 5 6; mknod p p; chmod 4711 f
		/bin/helper setxattr f user.n v; /bin/helper times f`, func(r *guest.Run) { r.Layers = append(r.Layers, "more") })
	if r.err != nil || r.status != 0 {
		t.Fatalf("status %x, %v: %s", r.status, r.err, r.out)
	}
	want := `. 40755 0:0
dir 40750 1:2
dir/a 100604 7:0 size 10 links 1 user.x="y"
dir/sub 42700 5:6 opaque
gone 20000 0:0 0,0
new 40755 0:0 opaque
new/c 20644 0:0 5,6
new/f 104711 0:0 size 4 links 2 user.n="v"
new/g 104711 0:0 size 4 links 2 user.n="v"
new/l 120777 0:0 -> /none
new/p 10644 0:0
`
	if got := lines(r.changes); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for _, c := range r.changes {
		if c.Path == "new/f" && (c.Sec != 1234567890 || c.Nsec != 123456789) {
			t.Errorf("time %d.%d", c.Sec, c.Nsec)
		}
	}
	for name, want := range map[string]string{"dir/a": "dir/amore\n", "new/f": "one\n", "new/g": "one\n"} {
		if got, err := os.ReadFile(filepath.Join(r.upper, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if r = p.run("true", nil); lines(r.changes) != ". 40755 0:0\n" {
		t.Errorf("changes without a change:\n%s", lines(r.changes))
	}
}

// TestCopyUp checks that a directory keeps its time when a file in it is changed in place, and
// gets a new one when its content changes.
func TestCopyUp(t *testing.T) {
	p := start(t)
	p.base()
	tree := t.TempDir()
	entries := []listing.Entry{{Path: ".", Type: listing.TypeDir, Mode: 0o755, MTime: 3}}
	for _, dir := range []string{"appended", "moded", "linked", "twice", "added", "removed", "asked"} {
		must(t, os.MkdirAll(tree+"/"+dir+"/d", 0o700))
		must(t, os.WriteFile(tree+"/"+dir+"/f", []byte("x"), 0o600))
		entries = append(entries,
			listing.Entry{Path: dir, Type: listing.TypeDir, Mode: 0o755, MTime: 5}, listing.Entry{Path: dir + "/d", Type: listing.TypeDir, Mode: 0o755, MTime: 6},
			listing.Entry{Path: dir + "/f", Type: listing.TypeFile, Mode: 0o644, Size: 1, MTime: 7}, listing.Entry{Path: dir + "/l", Type: listing.TypeSymlink, Link: "x", MTime: 8})
	}
	p.addLayer("dirs", tree, entries, guest.Time{Path: "moded", Sec: 5, Nsec: 99})
	r := p.run(`set -e
		echo y >>/appended/f; chmod 600 /moded/f /moded/d; chown -h 5 /linked/l; echo y >>/twice/f; chmod 700 /twice/d
		touch /added/g; echo y >>/added/f; rm /removed/f; busybox stat -c '%X %Y' /asked/f; touch /asked/new; chmod 600 /asked/f`,
		func(r *guest.Run) { r.Layers = append(r.Layers, "dirs") })
	if r.err != nil || r.status != 0 {
		t.Fatalf("status %x, %v: %s", r.status, r.err, r.out)
	}
	for _, c := range r.changes {
		old := c.Sec < 100
		switch c.Path {
		case ".", "appended", "moded", "moded/d", "linked", "twice", "twice/d", "linked/l":
			if !old {
				t.Errorf("%s has a new time", c.Path)
			}
		case "added", "removed", "asked":
			if old {
				t.Errorf("%s has its old time", c.Path)
			}
		}
		if c.Path == "moded" && c.Nsec != 99 {
			t.Errorf("nanoseconds %d", c.Nsec)
		}
	}
}

// TestMounts checks mounts, and that their mount points are no changes.
func TestMounts(t *testing.T) {
	p := start(t)
	p.base()
	socket := filepath.Join(p.dir, "socket")
	l, err := net.Listen("unix", socket)
	must(t, err)
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		b := make([]byte, 100)
		n, _ := conn.Read(b)
		conn.Write([]byte("answer to " + string(b[:n]) + "\n"))
	}()
	layers := []string{"base"}
	r := p.run(`cat /run/secret; stat -c '%u:%g %a' /run/secret; echo x 2>/dev/null >/run/secret
		ls /ro/passwd; touch /ro/x 2>/dev/null || echo read-only; touch /rw/x && rm /rw/passwd && ls /rw; cat /file
		stat -c '%u %a' /t; touch /t/x; /bin/helper ask /s; ls -l /t/in/passwd | grep -c passwd`, func(r *guest.Run) {
		r.Mounts = []guest.Mount{
			{Type: guest.MountFile, Target: "/run/secret", Data: "hush\n", UID: 3, GID: 4, Mode: 0o440, ReadOnly: true},
			{Type: guest.MountLayers, Target: "/ro", Layers: layers, Subpath: "etc", ReadOnly: true},
			{Type: guest.MountLayers, Target: "rw", Layers: layers, Subpath: "/etc"},
			{Type: guest.MountLayers, Target: "/file", Layers: layers, Subpath: "/etc/passwd"},
			{Type: guest.MountTmpfs, Target: "/t", Mode: 0o700, UID: 9, Size: 1 << 20},
			{Type: guest.MountLayers, Target: "/t/in", Layers: layers, Subpath: "/etc", ReadOnly: true},
			{Type: guest.MountSocket, Target: "/s", Source: socket, Mode: 0o600},
		}
	})
	want := "hush\n3:4 440\n/ro/passwd\nread-only\ngroup\nx\n" +
		"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n9 700\nanswer to question\n1\n"
	if r.err != nil || r.out != want {
		t.Errorf("got %q, %v, want %q", r.out, r.err, want)
	}
	if got := lines(r.changes); got != ". 40755 0:0\n" {
		t.Errorf("changes:\n%s", got)
	}
}

// TestCache checks that a cache keeps its files with their owners, even when the record is
// lost.
func TestCache(t *testing.T) {
	p := start(t)
	p.base()
	must(t, os.MkdirAll(p.dir+"/cache/data", 0o700))
	must(t, os.WriteFile(p.dir+"/cache/data/first", []byte("1"), 0o600))
	run := func(script string) string {
		t.Helper()
		r := p.run(script, func(r *guest.Run) {
			m := guest.Mount{Type: guest.MountCache, Target: "/c", Source: p.dir + "/cache/data", Record: p.dir + "/cache/record", UID: 8, GID: 9, Mode: 0o770}
			again := m
			again.Target, again.Subpath, again.ReadOnly = "/again", "/", true
			r.Mounts = []guest.Mount{m, again}
		})
		if r.err != nil || r.status != 0 {
			t.Fatalf("%s: status %x, %v: %s", script, r.status, r.err, r.out)
		}
		return r.out
	}
	for _, step := range [][2]string{
		{"stat -c '%u:%g %a' /c /c/first; mkdir /c/d; echo x >/c/d/f; ls /again/d; chown 33:34 /c/d /c/d/f; chmod 751 /c/d; ln -s d /c/l; rm /c/first; mknod /c/p p", "8:9 770\n8:9 600\nf\n"},
		{"cd /c; stat -c '%n %u:%g %a' d d/f l; ls", "d 33:34 751\nd/f 33:34 644\nl 0:0 777\nd\nl\np\n"},
		{"cd /c; /bin/helper times d/f; rm p l; mv d e", ""},
		{"cd /c; stat -c '%n %u:%g %a %y' e e/f | cut -c 1-50; ls", "e 33:34 751"},
	} {
		if got := run(step[0]); !strings.HasPrefix(got, step[1]) {
			t.Errorf("%s: got %q, want %q", step[0], got, step[1])
		}
	}
	if got := run("stat -c '%u %y' /c/e/f"); got != "33 2009-02-13 23:31:30.123456789 +0000\n" {
		t.Errorf("got %q", got)
	}
	must(t, os.Remove(p.dir+"/cache/record"))
	if got := run("cat /c/e/f; stat -c '%u:%g' /c/e/f"); got != "x\n8:9\n" {
		t.Errorf("got %q", got)
	}
}

// TestSharedCache runs commands at once with one cache. Each waits for a file of the other,
// and one is ended by a failure, which does not take away the changes.
func TestSharedCache(t *testing.T) {
	p := start(t)
	p.base()
	must(t, os.MkdirAll(p.dir+"/cache/data", 0o700))
	cache := guest.Mount{Type: guest.MountCache, Target: "/c", Source: p.dir + "/cache/data", Record: p.dir + "/cache/record", Mode: 0o755}
	mounts := func(list ...guest.Mount) func(*guest.Run) { return func(r *guest.Run) { r.Mounts = list } }
	var group sync.WaitGroup
	var results [2]result
	for i, script := range []string{
		"cd /c; echo 0 >zero; until [ -e one ]; do sleep 0.01; done; cat one; mv one moved; exit 3",
		"cd /c; mkdir d; echo 1 >d/new; mv d/new one; until [ -e moved ]; do sleep 0.01; done; rm zero; echo last >last; chown 7 last",
	} {
		group.Go(func() { results[i] = p.run(script, mounts(cache)) })
	}
	group.Wait()
	for i, want := range []struct {
		out    string
		status unix.WaitStatus
	}{{"1\n", 3 << 8}, {"", 0}} {
		if r := results[i]; r.err != nil || r.out != want.out || r.status != want.status {
			t.Errorf("%d: status %x, %v: %q", i, r.status, r.err, r.out)
		}
	}
	if r := p.run("", mounts(cache, guest.Mount{Type: "x"})); r.err == nil {
		t.Error("a command with a bad mount has run")
	}
	const want = "d\nlast\nmoved\n7\nlast\n"
	if r := p.run("cd /c; ls; stat -c %u last; cat last", mounts(cache)); r.err != nil || r.out != want {
		t.Errorf("got %q, %v", r.out, r.err)
	}
	if text, err := os.ReadFile(p.dir + "/cache/data/moved"); err != nil || string(text) != "1\n" {
		t.Errorf("on the host: %q, %v", text, err)
	}
}

// TestTogether runs commands at once in one kernel. They must not see each other.
func TestTogether(t *testing.T) {
	p := start(t)
	p.base()
	const n = 8
	var group sync.WaitGroup
	results := make([]result, n)
	p.addLayer("open", "", []listing.Entry{{Path: "shared", Type: listing.TypeFile, Mode: 0o666}})
	for i := range n {
		group.Go(func() {
			script := "hostname; echo " + strconv.Itoa(i) + " >/shared; for x in 1 2 3 4 5 6 7 8; do cat /shared; done | sort -u; set -- /proc/[0-9]*; echo $#; id -u"
			results[i] = p.run(script, func(r *guest.Run) {
				r.Hostname, r.NoNetwork, r.User = "box"+strconv.Itoa(i), i%2 == 0, strconv.Itoa(1000*(i%3))+":0"
				r.Layers = append(r.Layers, "open")
			})
		})
	}
	group.Wait()
	for i, r := range results {
		id := strconv.Itoa(i)
		want := "box" + id + "\n" + id + "\n1\n" + strconv.Itoa(1000*(i%3)) + "\n"
		if r.err != nil || r.out != want {
			t.Errorf("%d: got %q, %v, want %q", i, r.out, r.err, want)
		}
	}
}

// TestEnd checks that the program ends with its control socket, and its commands with it.
func TestEnd(t *testing.T) {
	p := start(t)
	p.base()
	in, out, err := os.Pipe()
	must(t, err)
	defer in.Close()
	p.send(&guest.Request{Version: guest.Version, Kind: guest.KindRun, Run: guest.Run{
		Layers: []string{"base"}, Upper: t.TempDir(), Scratch: p.dir, Args: []string{"/bin/sh", "-c", "echo ready; while :; do sleep 100000; done"},
	}}, [3]*os.File{nil, out, nil})
	out.Close()
	b := make([]byte, 10)
	if n, err := in.Read(b); err != nil || string(b[:n]) != "ready\n" {
		t.Fatalf("read %q, %v", b[:n], err)
	}
	p.stop()
	if n, err := in.Read(b); n != 0 {
		t.Errorf("read %q, %v after the end", b[:n], err)
	}
}
