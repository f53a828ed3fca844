package runtime

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/step"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
)

// call is a system call of a program.
type call struct {
	attempt string
	number  uintptr
	args    [6]uintptr
}

// calls reads the calls of a program, whose fields are not exported.
func calls(p *launch.Program) (list []call) {
	v := reflect.ValueOf(p).Elem()
	all, names := v.FieldByName("calls"), v.FieldByName("names")
	for i := range all.Len() {
		c := call{attempt: names.Index(i).String(), number: uintptr(all.Index(i).FieldByName("number").Uint())}
		for k := range c.args {
			c.args[k] = uintptr(all.Index(i).FieldByName("args").Index(k).Uint())
		}
		list = append(list, c)
	}
	return list
}

// newChild returns a child of a request whose descriptors are invalid.
func newChild(req *wire.Request, s *server, account step.Account) *child {
	return &child{Program: new(launch.Program), s: s, t: s.newTree(req), req: req, files: [3]int{7, 8, 9}, account: account}
}

// attempts returns the purposes of a program's calls, each once in a row. Calls that may
// fail have none.
func attempts(list []call) []string {
	var names []string
	for _, c := range list {
		if c.attempt != "" {
			names = append(names, c.attempt)
		}
	}
	return slices.Compact(names)
}

// TestProgram checks which calls a child makes, and in which order.
func TestProgram(t *testing.T) {
	t.Parallel()
	root := step.Account{Groups: []uint32{0}, Home: "/root"}
	all := ^uint64(0)
	request := func(change func(*wire.Request)) *wire.Request {
		r := &wire.Request{Args: []string{"/bin/true"}, Env: []string{"PATH=/bin"}}
		if change != nil {
			change(r)
		}
		return r
	}
	const proc = "open /proc of the image as a directory"
	begin := []string{"start a session", "pass on descriptors", "close descriptors", "reset signals", "mount /proc", proc, "mount /proc"}
	chroot := []string{"change the root directory", "close descriptors", "limit open files"}
	end := []string{"install the system call filter", `enter the working directory "/"`, "drop capabilities", "become user 0:0", "drop capabilities", "/bin/true"}
	for name, test := range map[string]struct {
		server  *server
		req     *wire.Request
		account step.Account
		hidden  []string
		cgroups []int
		want    []string
	}{
		"plain": {&server{bounding: all, setsGroups: true}, request(nil), root, nil, nil, slices.Concat(begin, chroot, end)},
		"interactive": {
			&server{bounding: all, setsGroups: true}, request(func(r *wire.Request) { r.Interactive = true }), root, nil, nil,
			slices.Concat(begin[1:], chroot, end),
		},
		"cgroups": {
			&server{bounding: all, setsGroups: true}, request(func(r *wire.Request) { r.CgroupFiles = []string{"/cg/a/cgroup.procs", "/cg/b/cgroup.procs"} }),
			root, nil, []int{20, 21},
			slices.Concat([]string{"enter the cgroup /cg/a", "enter the cgroup /cg/b"}, begin, chroot, end),
		},
		"protected files": {
			&server{bounding: all, setsGroups: true, procReadOnly: []string{"sys"}, procFiles: []string{"kcore"}, procDirs: []string{"acpi"}}, request(nil), root, nil, nil,
			slices.Concat(begin, []string{"protect /proc/sys", "protect /proc/kcore", "protect /proc/acpi"}, chroot, end),
		},
		"insecure": {
			&server{bounding: all, setsGroups: true, procReadOnly: []string{"sys"}, procFiles: []string{"kcore"}},
			request(func(r *wire.Request) { r.Insecure = true }), root, nil, nil,
			slices.Concat(begin, chroot, []string{`enter the working directory "/"`, "become user 0:0", "drop capabilities", "/bin/true"}),
		},
		"hidden processes": {
			&server{bounding: all, setsGroups: true, outerProc: true}, request(nil), root, []string{"1", "20"}, nil,
			slices.Concat(begin, []string{"hide processes in /proc"}, chroot, end),
		},
		"another user": {
			&server{setsGroups: true}, request(func(r *wire.Request) { r.Dir = "/home/\"x\"" }), step.Account{UID: 5, GID: 6, Groups: []uint32{6, 7}}, nil, nil,
			slices.Concat(begin, chroot, []string{"install the system call filter", `enter the working directory "/home/\"x\""`, "become user 5:6", "/bin/true"}),
		},
		"a single id": {
			&server{}, request(nil), root, nil, nil,
			slices.Concat(begin, chroot, end[:2], []string{
				"become user 0:0, which is not mapped into the user namespace (to map more ids, see cairn info)", "drop capabilities", "/bin/true",
			}),
		},
		"ulimits": {
			&server{setsGroups: true}, request(func(r *wire.Request) { r.Ulimits = []wire.Ulimit{{Name: "core", Resource: 4, Soft: 0, Hard: -1}} }), root, nil, nil,
			slices.Concat(begin, chroot, []string{"set the ulimit core to 0:-1"}, end[:2], end[3:]),
		},
		"a search": {
			&server{setsGroups: true}, request(func(r *wire.Request) { r.Args, r.Env = []string{"make"}, []string{"PATH=/a:/b"} }), root, nil, nil,
			slices.Concat(begin, chroot, end[:2], end[3:5], []string{"/a/make", "/b/make"}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChild(test.req, test.server, test.account)
			c.hidden, c.cgroups = test.hidden, test.cgroups
			if d := cmp.Diff(test.want, attempts(calls(c.program()))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestProgramDescriptors checks that a child closes all descriptors but those that its
// program needs, and in the end all but the standard streams.
func TestProgramDescriptors(t *testing.T) {
	t.Parallel()
	c := newChild(&wire.Request{Args: []string{"/x"}}, &server{}, step.Account{})
	c.t.root, c.t.dev, c.t.empty = 30, 31, 32
	var dups [][3]uintptr
	var closed []uintptr
	for _, call := range calls(c.program()) {
		switch call.number {
		case unix.SYS_DUP3:
			dups = append(dups, [3]uintptr(call.args[:3]))
		case unix.SYS_CLOSE_RANGE:
			if call.args[1] != uintptr(^uint32(0)) || call.args[2] != 0 {
				t.Errorf("closes %v", call.args)
			}
			closed = append(closed, call.args[0])
		}
	}
	want := [][3]uintptr{{7, 0, 0}, {8, 1, 0}, {9, 2, 0}, {30, childRoot, unix.O_CLOEXEC}, {31, childDev, unix.O_CLOEXEC}, {32, childEmpty, unix.O_CLOEXEC}}
	if !slices.Equal(dups, want) || !slices.Equal(closed, []uintptr{childFree, 3}) {
		t.Errorf("duplicates %v, closes from %v", dups, closed)
	}
}

// TestProgramSignals checks that every signal but SIGKILL and SIGSTOP is reset.
func TestProgramSignals(t *testing.T) {
	t.Parallel()
	var reset []int
	for _, call := range calls(newChild(&wire.Request{Args: []string{"/x"}}, &server{}, step.Account{}).program()) {
		if call.number == unix.SYS_RT_SIGACTION {
			reset = append(reset, int(call.args[0]))
		}
	}
	if len(reset) != 62 || slices.Contains(reset, int(unix.SIGKILL)) || slices.Contains(reset, int(unix.SIGSTOP)) || slices.Max(reset) != 64 {
		t.Errorf("resets %v", reset)
	}
}

// TestProgramCapabilities checks which capabilities leave the bounding set.
func TestProgramCapabilities(t *testing.T) {
	t.Parallel()
	const bounding = uint64(1)<<unix.CAP_CHOWN | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_MODULE
	for insecure, want := range map[bool][]int{false: {unix.CAP_SYS_MODULE, unix.CAP_SYS_ADMIN}, true: nil} {
		var dropped []int
		for _, call := range calls(newChild(&wire.Request{Args: []string{"/x"}, Insecure: insecure}, &server{bounding: bounding}, step.Account{}).program()) {
			if call.number == unix.SYS_PRCTL && call.args[0] == unix.PR_CAPBSET_DROP {
				dropped = append(dropped, int(call.args[1]))
			}
		}
		if !slices.Equal(dropped, want) {
			t.Errorf("insecure %v: drops %v, want %v", insecure, dropped, want)
		}
	}
}

// TestProgramSockets checks that only a step with the machine's network loses its
// abstract sockets, which an insecure step keeps.
func TestProgramSockets(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		req  wire.Request
		want bool
	}{{wire.Request{}, true}, {wire.Request{NoNetwork: true}, false}, {wire.Request{Insecure: true}, false}} {
		test.req.Args = []string{"/x"}
		got := slices.ContainsFunc(calls(newChild(&test.req, &server{}, step.Account{}).program()), func(c call) bool {
			return c.number == unix.SYS_LANDLOCK_RESTRICT_SELF
		})
		if got != test.want {
			t.Errorf("%+v: restricted %v", test.req, got)
		}
	}
}

// TestProgramIDs checks the order of the calls that change the account: privileges that a
// later call needs must not be gone.
func TestProgramIDs(t *testing.T) {
	t.Parallel()
	account := step.Account{UID: 5, GID: 6, Groups: []uint32{6, 7}}
	var got []string
	for _, call := range calls(newChild(&wire.Request{Args: []string{"/x"}}, &server{setsGroups: true, bounding: 1 << unix.CAP_SYS_ADMIN}, account).program()) {
		switch call.number {
		case unix.SYS_PIVOT_ROOT:
			got = append(got, "root")
		case unix.SYS_SECCOMP:
			got = append(got, "filter")
		case unix.SYS_PRCTL:
			got = append(got, "prctl")
		case unix.SYS_SETGROUPS:
			if call.args[0] != 2 {
				t.Errorf("sets %d groups", call.args[0])
			}
			got = append(got, "groups")
		case unix.SYS_SETRESGID, unix.SYS_SETRESUID:
			if id := map[uintptr]uintptr{unix.SYS_SETRESGID: 6, unix.SYS_SETRESUID: 5}[call.number]; [3]uintptr(call.args[:3]) != [3]uintptr{id, id, id} {
				t.Errorf("sets ids %v, want %d", call.args, id)
			}
			got = append(got, map[uintptr]string{unix.SYS_SETRESGID: "gid", unix.SYS_SETRESUID: "uid"}[call.number])
		case unix.SYS_EXECVE:
			got = append(got, "exec")
		}
	}
	if want := "root filter prctl prctl groups gid uid exec"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, " "), want)
	}
}
