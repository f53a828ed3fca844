package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"github.com/cairn-build/cairn/layer/listing"
)

// TestHostile runs commands that look for a way out.
func TestHostile(t *testing.T) {
	p := start(t)
	p.base()
	outside := filepath.Join(p.dir, "outside")
	must(t, os.WriteFile(outside, []byte("token"), 0o644))
	tree := t.TempDir()
	must(t, os.MkdirAll(tree+"/d", 0o700))
	must(t, os.Symlink(outside, tree+"/file"))
	must(t, os.Symlink(p.dir, tree+"/link"))
	p.addLayer("links", tree, []listing.Entry{
		// The tree on the host has links in place of these files.
		{Path: "file", Type: listing.TypeFile, Mode: 0o644, Size: 5},
		{Path: "link", Type: listing.TypeDir, Mode: 0o755}, {Path: "link/outside", Type: listing.TypeFile, Mode: 0o644, Size: 5},
		{Path: "out", Type: listing.TypeSymlink, Link: outside}, {Path: "up", Type: listing.TypeSymlink, Link: "../../../../../.." + outside},
	})
	for _, test := range []struct{ name, script, want string }{
		{"files of the host", "cat " + outside + " /out /up 2>&1 | grep -c token", "0\n"},
		{"links in a layer", "cat /file /link/outside 2>&1 | grep -ci 'i/o error\\|input/output error'", "2\n"},
		{"root of other processes", "cat /proc/1/root" + outside + " /proc/self/root" + outside + " 2>&1 | grep -c token", "0\n"},
		{"descriptors", "ls /proc/self/fd | grep -vc '[0-3]'", "0\n"},
		{"environment", "cat /proc/1/environ | grep -c SECRET", "0\n"},
		{"mounts", "busybox mount -t tmpfs x /tmp 2>&1 | grep -c 'permission denied'; busybox mount -o remount,rw /sys 2>&1 | grep -c 'permission denied'; busybox umount /proc 2>&1 | grep -c permitted", "1\n1\n1\n"},
		{"namespaces", "busybox unshare -m true 2>&1 | grep -c permitted; busybox unshare -n true 2>&1 | grep -c permitted", "1\n1\n"},
		{"devices", "mknod /sda b 8 0; cat /sda 2>/dev/null | grep -c .; mknod /mem c 1 1; cat /mem 2>/dev/null | grep -c .", "0\n0\n"},
		{"chroot", "mkdir -p /r/x; busybox chroot /r /none 2>&1 | grep -c 'No such file'", "1\n"},
		{"kernel", "echo x 2>/dev/null >/proc/sysrq-trigger; echo 1 2>/dev/null >/proc/sys/kernel/core_pattern; busybox reboot -f 2>&1 | grep -c permitted; hostname x 2>&1 | grep -c permitted", "1\n1\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.t = t
			r := p.run(test.script, func(r *guest.Run) { r.Layers = append(r.Layers, "links") })
			if r.err != nil || r.out != test.want {
				t.Errorf("got %q, %v, want %q", r.out, r.err, test.want)
			}
		})
	}
	p.t = t
	r := p.run("mkdir -p /a/b && ln -s "+p.dir+" /a/l && echo x >/a/b/f", nil)
	if names, err := filepath.Glob(r.upper + "/a/*"); err != nil || len(names) != 1 {
		t.Errorf("the upper directory has %v, %v", names, err)
	}
	for _, path := range []string{"/up", "/../../up", "/out/x"} {
		r := p.run("true", func(r *guest.Run) {
			r.Layers = append(r.Layers, "links")
			r.Mounts = []guest.Mount{{Type: guest.MountFile, Target: path, Data: "x"}}
		})
		if text, err := os.ReadFile(outside); err != nil || string(text) != "token" {
			t.Errorf("%s: the file outside has %q, %v after %v", path, text, err, r.err)
		}
	}
}

// TestFilter checks the system call filter of the program, as the kernel sees it.
func TestFilter(t *testing.T) {
	p := start(t)
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	must(t, err)
	for _, want := range []string{"Seccomp:\t2\n", "NoNewPrivs:\t1\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestTerminal runs a shell on a terminal and interrupts its foreground process.
func TestTerminal(t *testing.T) {
	p := start(t)
	p.base()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs pseudo terminals: %v", err)
	}
	defer master.Close()
	must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(t, err)
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	defer slave.Close()
	conn := p.send(&guest.Request{Version: guest.Version, Kind: guest.KindRun, Run: guest.Run{
		Layers: []string{"base"}, Upper: t.TempDir(), Scratch: p.dir, Interactive: true,
		Args: []string{"/bin/sh", "-c", "trap 'echo caught' INT; [ -t 0 ] && [ -t 1 ] && echo terminal; read x; echo got $x; sh -c 'echo sleeps; exec sleep 100000'; exit 7"},
	}}, [3]*os.File{slave, slave, slave})
	var seen strings.Builder
	until := func(text string) {
		t.Helper()
		b := make([]byte, 100)
		for !strings.Contains(seen.String(), text) {
			n, err := master.Read(b)
			if err != nil {
				t.Fatalf("%v after %q", err, seen.String())
			}
			seen.Write(b[:n])
		}
	}
	until("terminal\r\n")
	_, err = master.Write([]byte("word\n"))
	must(t, err)
	until("got word\r\nsleeps\r\n")
	_, err = conn.Write([]byte{byte(unix.SIGINT)})
	must(t, err)
	until("caught\r\n")
	var reply guest.Reply
	must(t, wire.Receive(conn, &reply))
	if reply.Err() != nil || reply.Status != 7<<8 {
		t.Errorf("status %x, %v", reply.Status, reply.Err())
	}
}
