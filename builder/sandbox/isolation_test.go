package sandbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// status returns a field of /proc/self/status as the command sees it.
func status(t testing.TB, s Spec, fields ...string) map[string]string {
	t.Helper()
	s.Args = []string{"/bin/cat", "/proc/self/status"}
	out := map[string]string{}
	for line := range strings.Lines(run(t, s).out) {
		if name, value, ok := strings.Cut(line, ":"); ok && slices.Contains(fields, name) {
			out[name] = strings.TrimSpace(value)
		}
	}
	return out
}

// defaultCaps are the fourteen default capabilities of a container.
const defaultCaps = "00000000a80425fb"

func TestPrivileges(t *testing.T) {
	t.Parallel()
	root := image(t, nil)
	const zero = "0000000000000000"
	for _, test := range []struct{ user, effective string }{{"", defaultCaps}, {"ada", zero}} {
		s := spec(t, root, "")
		s.User = test.user
		got := status(t, s, "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs", "Pid", "PPid", "SigIgn", "SigBlk")
		want := map[string]string{
			"CapInh": zero, "CapPrm": test.effective, "CapEff": test.effective, "CapBnd": defaultCaps, "CapAmb": zero,
			"Seccomp": "2", "NoNewPrivs": "0", "Pid": "1", "PPid": "0", "SigIgn": zero, "SigBlk": zero,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("user %q: got %v, want %v", test.user, got, want)
		}
	}
}

// TestDropCapabilities checks that a command lacks capabilities, also an insecure one.
func TestDropCapabilities(t *testing.T) {
	t.Parallel()
	for _, insecure := range []bool{false, true} {
		for _, s := range inBothWays(t, image(t, nil), "") {
			if s.Insecure = insecure; insecure && s.Chroot {
				continue
			}
			s.DropCapabilities = []string{"CHOWN", "CHECKPOINT_RESTORE"}
			if s.Chroot { // there is no file of the process in /proc
				s.Args = []string{"/bin/sh", "-c", "touch /f && ! chown 1 /f 2>/dev/null && chmod 600 /f && echo dropped"}
				if o := run(t, s); o.out != "dropped\n" {
					t.Errorf("by chroot: %+v", o)
				}
				continue
			}
			got := status(t, s, "CapEff", "CapBnd")
			if !strings.ContainsAny(got["CapEff"][15:], "ae") || got["CapEff"] != got["CapBnd"] || got["CapEff"] > "000000ffffffffff" {
				t.Errorf("insecure %v: got %v", insecure, got)
			}
		}
	}
}

// TestGroups checks the further groups of a command's user.
func TestGroups(t *testing.T) {
	t.Parallel()
	for _, s := range inBothWays(t, image(t, nil), "id -G") {
		s.User, s.Groups = "ada:ada", []string{"staff", "1234", "ada"}
		if o := run(t, s); o.out != "1001 50 1234\n" {
			t.Errorf("by chroot %v: %+v", s.Chroot, o)
		}
	}
}

// TestNoHosts checks that a command sees the /etc/hosts of its tree, or none.
func TestNoHosts(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"10.0.0.9 own\n", ""} {
		root := image(t, func(root string) {
			if text != "" {
				must(t, os.WriteFile(root+"/etc/hosts", []byte(text), 0o644))
			}
		})
		s := spec(t, root, "cat /etc/hosts || test ! -e /etc/hosts && echo more >> /etc/hosts")
		s.NoHosts = true
		if o := run(t, s); o.out != text || o.ExitCode != 0 {
			t.Errorf("%+v, want %q", o, text)
		}
		if got, err := os.ReadFile(s.Upper + "/etc/hosts"); err != nil || string(got) != text+"more\n" {
			t.Errorf("upper has %q, %v", got, err)
		}
	}
	s := plainly(t, "echo own >> /etc/hosts")
	s.NoHosts = true
	run(t, s)
	if got, err := os.ReadFile(s.Root + "/etc/hosts"); err != nil || string(got) != "own\n" {
		t.Errorf("the tree has %q, %v", got, err)
	}
}

func TestInsecure(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "")
	s.Insecure = true
	got := status(t, s, "CapEff", "Seccomp")
	if got["Seccomp"] != "0" || got["CapEff"] < "0000000100000000" {
		t.Errorf("got %v", got)
	}
	s = spec(t, image(t, nil), "mount -t tmpfs none /tmp && echo mounted")
	s.Insecure = true
	if o := run(t, s); o.out != "mounted\n" {
		t.Errorf("got %+v", o)
	}
	s = spec(t, image(t, nil), "grep ' /sys ' /proc/mounts; stat -c %F /dev/loop0 /dev/fuse; test -e /dev/net/tun")
	if o := run(t, s); !strings.Contains(o.out, "sysfs ro,") || strings.Contains(o.out, "special") {
		t.Errorf("not insecure: %+v", o)
	}
	s = spec(t, s.Lowers[0], s.Args[2])
	s.Insecure = true
	if o := run(t, s); os.Getuid() == 0 && !inUserNS() && (!strings.Contains(o.out, "sysfs rw,") || !strings.Contains(o.out, "block special file\ncharacter special file\n") || o.ExitCode != 0) {
		t.Errorf("insecure: %+v", o)
	}
}

func inUserNS() bool {
	uid, _ := HostIDs()
	return uid != 0
}

func TestSeen(t *testing.T) {
	t.Parallel()
	root := image(t, nil)
	host, err := os.Hostname()
	must(t, err)
	for _, test := range []struct{ name, script, want string }{
		{"descriptors", "ls /proc/self/fd | tr '\\n' ' '; ls -l /proc/self/fd | grep -c -v -E ' [012] |total|/proc/[0-9]+/fd'", "0 1 2 3 0\n"},
		{"only own processes", "set -- /proc/[0-9]*; echo $*", "/proc/1\n"},
		{"host name", "hostname", "buildkitsandbox\n"},
		{"hosts", "cat /etc/hosts", "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
		{"umask", "umask", "0022\n"},
		{"own session", "test $(sed 's/.*) //' /proc/1/stat | { read a b c d e; echo $d; }) = 1 && echo yes", "yes\n"},
		{"no masked content", "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c", "0\n"},
		{"no firmware", "ls /sys/firmware | wc -l", "0\n"},
		{"nothing in masked folders", "ls /proc/scsi /proc/acpi 2>/dev/null | grep -v : | tr -d '\\n' | wc -c", "0\n"},
		{"settings are read-only", "for f in /proc/sys/kernel/domainname /proc/sysrq-trigger /sys/kernel/uevent_seqnum; do { echo x > $f; } 2>/dev/null && echo $f; done; echo done", "done\n"},
		{"no mounting", "mount -t tmpfs none /tmp 2>/dev/null; umount /proc/kcore 2>/dev/null; echo $(grep -c ' /tmp ' /proc/mounts)", "0\n"},
		{"no other machine mounts", "ls /sys/fs/cgroup | wc -l; grep -c ' ext4 ' /proc/mounts", "0\n0\n"},
		{"devices", "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; head -c 2 /dev/random | wc -c; echo x 2>&1 > /dev/full | grep -c space", "3\n4\n2\n1\n"},
		{"dev", "echo $(ls /dev)", "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n"},
		{"standard streams", "echo a > /dev/stdout; echo b > /proc/self/fd/1", "a\nb\n"},
		{"shared memory", "echo x > /dev/shm/x && stat -c %a /dev/shm", "1777\n"},
		{"dev may be changed", "chmod 600 /dev/null && ln -s null /dev/mine && echo x > /dev/mine && ls -l /dev/mine | wc -l", "1\n"},
		{"terminals", "test -c /dev/pts/ptmx && stat -c %a /dev/pts/ptmx", "666\n"},
		{"limit of open files", "test $(ulimit -n) -le 65536 && echo yes", "yes\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "dev may be changed" && InUserNamespace() {
				t.Skip("device nodes in a user namespace are the machine's and stay as they are")
			}
			o := run(t, spec(t, root, test.script))
			if o.out != test.want || o.ExitCode > 1 {
				t.Errorf("got %q %q, code %d, want %q", o.out, o.err, o.ExitCode, test.want)
			}
		})
	}
	if after, _ := os.Hostname(); after != host {
		t.Errorf("the machine is called %q now", after)
	}
	info, err := os.Stat("/dev/null")
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("the machine's /dev/null has mode %v, %v", info.Mode(), err)
	}
}

// TestDeviceNodes checks that a step can make the node of a disk but not open it.
func TestDeviceNodes(t *testing.T) {
	if InUserNamespace() {
		t.Skip("no device node can be made in a user namespace")
	}
	s := spec(t, image(t, nil), "for d in / /dev /dev/shm /tmp /bound; do mknod $d/z c 1 5 && head -c 1 $d/z | wc -c; done")
	s.Mounts = []Mount{{Type: "bind", Source: t.TempDir(), Target: "/bound"}}
	o := run(t, s)
	if strings.Contains(o.out, "1") || strings.Count(o.err, "Permission denied") != 5 {
		t.Errorf("got %q %q", o.out, o.err)
	}
}

func TestDeviceNodesOfImage(t *testing.T) {
	if InUserNamespace() {
		t.Skip("no device node can be made in a user namespace")
	}
	root := image(t, func(root string) { must(t, unix.Mknod(root+"/z", unix.S_IFCHR|0o666, 1<<8|5)) })
	if o := run(t, spec(t, root, "head -c 1 /z | wc -c")); o.out != "0\n" {
		t.Errorf("got %q %q", o.out, o.err)
	}
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	root := image(t, nil)
	own, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	script := "ls /sys/class/net | tr '\\n' ' '; ip link show lo | grep -c LOOPBACK,UP; readlink /proc/self/ns/net"
	s := spec(t, root, script)
	s.Network = "none"
	o := run(t, s)
	if lines := strings.Split(o.out, "\n"); lines[0] != "lo 1" || lines[1] == own {
		t.Errorf("none: %q %q", o.out, o.err)
	}
	s = spec(t, root, "readlink /proc/self/ns/net")
	if o := run(t, s); strings.TrimSpace(o.out) != own {
		t.Errorf("host: %q, want %q", o.out, own)
	}
}

func TestHostsAndNames(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "hostname; cat /etc/hosts; echo 10.0.0.3 c >> /etc/hosts; tail -n 1 /etc/hosts 2>/dev/null || sed -n '$p' /etc/hosts; diff /etc/resolv.conf /host-resolv 2>/dev/null; true")
	s.Hostname, s.Hosts = "box", []string{"a:10.0.0.1", "b=10.0.0.2", "six:[::1]", "v6:fe80::1"}
	o := run(t, s)
	want := "box\n127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.1\ta\n10.0.0.2\tb\n::1\tsix\nfe80::1\tv6\n10.0.0.3 c\n"
	if o.out != want {
		t.Errorf("got %q, want %q", o.out, want)
	}
	if left := entries(t, s.Upper); len(left) > 0 {
		t.Errorf("upper has %q", left)
	}
	resolv, err := os.ReadFile("/etc/resolv.conf")
	must(t, err)
	if o := run(t, spec(t, image(t, nil), "cat /etc/resolv.conf")); o.out != string(resolv) {
		t.Errorf("resolv.conf is %q, want %q", o.out, resolv)
	}
}

// TestSetuidPrograms uses the test binary, because busybox drops the privileges.
func TestSetuidPrograms(t *testing.T) {
	root := image(t, func(root string) {
		program, err := os.ReadFile("/proc/self/exe")
		must(t, err)
		must(t, os.WriteFile(root+"/bin/suid", program, 0o755))
		must(t, os.Chmod(root+"/bin/suid", 0o755|os.ModeSetuid))
	})
	s := spec(t, root, "")
	s.Args, s.User, s.Env = []string{"/bin/suid"}, "ada", []string{"SANDBOX_TEST_ACT=euid"}
	s.Mounts = libraries()
	if o := run(t, s); o.out != "0\n" {
		t.Errorf("got %q %q", o.out, o.err)
	}
}

// TestAbstractSockets checks that a step cannot reach abstract sockets of the machine, if
// the kernel supports that, although it shares the network. It can reach its own.
func TestAbstractSockets(t *testing.T) {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	if abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version); errno != 0 || abi < 6 {
		t.Skipf("the kernel can't: Landlock's version is %d, %v", int(abi), errno)
	}
	root := image(t, func(root string) {
		program, err := os.ReadFile("/proc/self/exe")
		must(t, err)
		must(t, os.WriteFile(root+"/bin/connect", program, 0o755))
	})
	name := fmt.Sprintf("@cairn-test-%d", os.Getpid())
	l, err := net.Listen("unix", name)
	must(t, err)
	defer l.Close()
	for _, user := range []string{"", "ada"} {
		s := spec(t, root, "")
		s.Args, s.User, s.Env = []string{"/bin/connect"}, user, []string{"SANDBOX_TEST_ACT=connect", "SANDBOX_TEST_SOCKET=" + name}
		s.Mounts = libraries()
		if o := run(t, s); o.out != "false true\ntrue false\n" {
			t.Errorf("got %q %q", o.out, o.err)
		}
	}
}

// libraries mounts the libraries that a test binary with cgo needs.
func libraries() (out []Mount) {
	for _, lib := range []string{"/lib", "/lib64"} {
		if real, err := filepath.EvalSymlinks(lib); err == nil {
			out = append(out, Mount{Type: "bind", Source: real, Target: lib, ReadOnly: true})
		}
	}
	return out
}

func TestMounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.WriteFile(dir+"/file", []byte("content\n"), 0o644))
	must(t, os.Mkdir(dir+"/folder", 0o755))
	s := spec(t, image(t, nil), `cat /rw/file /ro/file /one
echo x > /rw/made
{ echo x > /ro/made; } 2>/dev/null || echo ro refused
{ echo x > /one; } 2>/dev/null || echo file refused
echo more >> /two
echo x > /scratch/y && stat -c %a /scratch
dd if=/dev/zero of=/scratch/z bs=1024 count=2000 2>/dev/null || echo scratch is full
cat /scratch/deep/in/file`)
	s.Mounts = []Mount{
		{Type: "bind", Source: dir, Target: "/rw"},
		{Type: "bind", Source: dir, Target: "/ro", ReadOnly: true},
		{Type: "bind", Source: dir + "/file", Target: "/one", ReadOnly: true},
		{Type: "bind", Source: dir + "/file", Target: "/two"},
		{Type: "tmpfs", Target: "/scratch", Size: 1 << 20, Mode: 0o750},
		{Type: "bind", Source: dir + "/folder", Target: "/scratch/deep/in"},
		{Type: "bind", Source: dir + "/file", Target: "/scratch/deep/in/file"},
	}
	o := run(t, s)
	want := "content\ncontent\ncontent\nro refused\nfile refused\n750\nscratch is full\ncontent\nmore\n"
	if o.out != want {
		t.Errorf("got %q %q, want %q", o.out, o.err, want)
	}
	if left := entries(t, s.Upper); len(left) > 0 {
		t.Errorf("upper has %q", left)
	}
	if got := entries(t, dir); !slices.Equal(got, []string{"file", "folder", "folder/file", "made"}) {
		t.Errorf("the mounted folder has %q", got)
	}
}

// TestBinaryIsOutOfReach checks that a step cannot write to the binary of the runtime
// process, even if it executes it.
func TestBinaryIsOutOfReach(t *testing.T) {
	root := image(t, nil)
	for _, sealed := range []bool{false, true} {
		b := &Sandbox{sealed: sealed}
		s := spec(t, root, "")
		s.Args, s.Env = []string{"/proc/self/exe"}, []string{"SANDBOX_TEST_ACT=write-self"}
		s.Mounts = libraries()
		o, err := tryIn(b, s)
		if err != nil || o.ExitCode != 0 || !strings.Contains(o.out, "refused") {
			t.Errorf("sealed %v: %+v, %v", sealed, o, err)
		}
		b.Close()
	}
}
