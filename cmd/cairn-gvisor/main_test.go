package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"github.com/cairn-build/cairn/layer/listing"
)

// The test binary is also the program, and a program in the trees of tests.
const (
	programName = "cairn-gvisor"
	helperPath  = "/bin/helper"
	busybox     = "/bin/busybox"
)

func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == programName:
		main()
	case strings.HasPrefix(os.Args[0], helperPath):
		help()
	}
	os.Exit(m.Run())
}

// help does in a container what busybox cannot do.
func help() {
	switch os.Args[1] {
	case "ask": // the socket at a path
		conn, err := net.Dial("unix", os.Args[2])
		exitOn(err)
		_, err = conn.Write([]byte("question"))
		exitOn(err)
		exitOn(conn.(*net.UnixConn).CloseWrite())
		_, err = io.Copy(os.Stdout, conn)
		exitOn(err)
	case "fill": // memory, in MiB
		n, err := strconv.Atoi(os.Args[2])
		exitOn(err)
		var kept [][]byte
		for range n {
			kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
		}
		runtime.KeepAlive(kept)
	case "id":
		fmt.Println(os.Getuid(), os.Geteuid())
	case "getxattr":
		var b [100]byte
		n, err := unix.Lgetxattr(os.Args[2], os.Args[3], b[:])
		exitOn(err)
		fmt.Printf("%q\n", b[:n])
	case "setxattr":
		exitOn(unix.Lsetxattr(os.Args[2], os.Args[3], []byte(os.Args[4]), 0))
	case "times":
		exitOn(unix.UtimesNano(os.Args[2], []unix.Timespec{{Sec: 5}, {Sec: 1234567890, Nsec: 123456789}}))
	}
	os.Exit(0)
}

func exitOn(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program is a running cairn-gvisor.
type program struct {
	t       testing.TB
	control int
	cmd     *exec.Cmd
	stderr  bytes.Buffer
	dir     string // for scratch files
}

// start starts the program. It skips the test if its kernel cannot run here.
func start(t testing.TB) *program {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	p := &program{t: t, control: pair[0], dir: t.TempDir(), cmd: exec.Command("/proc/self/exe")}
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	p.cmd.Args, p.cmd.Env, p.cmd.ExtraFiles, p.cmd.Stderr = []string{programName}, []string{}, []*os.File{theirs}, &p.stderr
	must(t, p.cmd.Start())
	t.Cleanup(p.stop)
	reply, conn := p.ask(&guest.Request{Version: guest.Version, Kind: guest.KindProbe}, [3]*os.File{})
	conn.Close()
	if err := reply.Err(); err != nil {
		t.Skip(err)
	}
	return p
}

func (p *program) stop() {
	if p.control < 0 {
		return
	}
	unix.Close(p.control)
	p.control = -1
	if err := p.cmd.Wait(); err != nil || p.stderr.Len() > 0 {
		p.t.Errorf("cairn-gvisor: %v\n%s", err, &p.stderr)
	}
}

// ask sends a request and receives its reply. A nil file is /dev/null.
func (p *program) ask(r *guest.Request, std [3]*os.File) (*guest.Reply, *os.File) {
	p.t.Helper()
	conn := p.send(r, std)
	reply := &guest.Reply{}
	if err := wire.Receive(conn, reply); err != nil {
		p.t.Fatalf("no reply: %v\n%s", err, &p.stderr)
	}
	return reply, conn
}

func (p *program) send(r *guest.Request, std [3]*os.File) *os.File {
	p.t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(p.t, err)
	defer null.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(p.t, err)
	fds := []int{pair[1]}
	for _, f := range std {
		if f == nil {
			f = null
		}
		fds = append(fds, int(f.Fd()))
	}
	must(p.t, unix.Sendmsg(p.control, []byte{0}, unix.UnixRights(fds...), nil, 0))
	unix.Close(pair[1])
	conn := os.NewFile(uintptr(pair[0]), "connection")
	p.t.Cleanup(func() { conn.Close() })
	must(p.t, wire.Send(conn, r))
	return conn
}

// addLayer makes a layer known.
func (p *program) addLayer(id, tree string, entries []listing.Entry, times ...guest.Time) {
	p.t.Helper()
	slices.SortFunc(entries, listing.Compare)
	encoded := (&listing.Listing{Entries: entries}).Encode()
	reply, _ := p.ask(&guest.Request{Version: guest.Version, Kind: guest.KindLayer, Layer: guest.Layer{
		ID: id, Tree: tree, Listing: string(encoded), Times: times,
	}}, [3]*os.File{})
	must(p.t, reply.Err())
}

// base adds the layer "base", with busybox and the helper.
func (p *program) base() {
	p.t.Helper()
	tree := p.t.TempDir()
	var entries []listing.Entry
	dir := func(path string, mode uint32) {
		must(p.t, os.MkdirAll(filepath.Join(tree, path), 0o700))
		entries = append(entries, listing.Entry{Path: path, Type: listing.TypeDir, Mode: mode})
	}
	file := func(path, content string, mode uint32, uid int) {
		must(p.t, os.WriteFile(filepath.Join(tree, path), []byte(content), 0o600))
		entries = append(entries, listing.Entry{Path: path, Type: listing.TypeFile, Mode: mode, UID: uid, GID: uid, Size: int64(len(content)), MTime: 1e9})
	}
	dir("bin", 0o755)
	dir("etc", 0o755)
	dir("tmp", 0o1777)
	dir("secret", 0o700)
	box, err := os.ReadFile(busybox)
	if err != nil {
		p.t.Skipf("needs a static busybox (apt-get install busybox-static): %v", err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	must(p.t, err)
	file("bin/busybox", string(box), 0o755, 0)
	file(helperPath[1:], string(self), 0o755, 0)
	file(helperPath[1:]+"-setuid", string(self), 0o4755, 0)
	for _, name := range []string{"sh", "id", "cat", "ls", "stat", "echo", "chown", "chmod", "rm", "mkdir", "ln", "mv", "mknod", "touch", "readlink", "ip", "kill", "sleep", "grep", "sort", "hostname", "printf", "true", "ulimit"} {
		entries = append(entries, listing.Entry{Path: "bin/" + name, Type: listing.TypeSymlink, Link: "busybox"})
	}
	file("etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n", 0o644, 0)
	file("etc/group", "root:x:0:\nweb:x:34:\nextra:x:77:web\n", 0o644, 0)
	file("owned", "content", 0o640, 1234)
	p.addLayer("base", tree, entries)
}

// result is the outcome of a command.
type result struct {
	out     string
	status  unix.WaitStatus
	limit   string
	changes []guest.Change
	upper   string
	err     error
}

// run runs a shell script in the layer "base", as changed by edit.
func (p *program) run(script string, edit func(*guest.Run)) result {
	p.t.Helper()
	upper, err := os.MkdirTemp(p.dir, "upper")
	must(p.t, err)
	r := guest.Run{
		Layers: []string{"base"}, Upper: upper, Scratch: p.dir, Args: []string{"/bin/sh", "-c", script}, Hostname: "box",
		HostsFile: "127.0.0.1 localhost\n", ResolvConf: "nameserver 192.0.2.1\n", ShmSize: 1 << 20,
	}
	if edit != nil {
		edit(&r)
	}
	in, out, err := os.Pipe()
	must(p.t, err)
	conn := p.send(&guest.Request{Version: guest.Version, Kind: guest.KindRun, Run: r}, [3]*os.File{nil, out, out})
	out.Close()
	text, err := io.ReadAll(in)
	must(p.t, err)
	in.Close()
	reply := &guest.Reply{}
	if err := wire.Receive(conn, reply); err != nil {
		p.t.Fatalf("no reply: %v\n%s", err, &p.stderr)
	}
	res := result{out: string(text), status: unix.WaitStatus(reply.Status), limit: reply.Limit, upper: upper, err: reply.Err()}
	if res.err == nil {
		res.changes, err = guest.ReceiveChanges(conn)
		must(p.t, err)
	}
	return res
}

// lines formats changes, one a line.
func lines(list []guest.Change) string {
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintf(&b, "%s %o %d:%d", c.Path, c.Mode, c.UID, c.GID)
		switch c.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			fmt.Fprintf(&b, " size %d links %d", c.Size, c.Links)
		case unix.S_IFLNK:
			fmt.Fprintf(&b, " -> %s", c.Link)
		case unix.S_IFCHR, unix.S_IFBLK:
			fmt.Fprintf(&b, " %d,%d", c.Major, c.Minor)
		}
		if c.Opaque {
			b.WriteString(" opaque")
		}
		for _, a := range c.XAttrs {
			fmt.Fprintf(&b, " %s=%q", a.Name, a.Value)
		}
		b.WriteString("\n")
	}
	return b.String()
}
