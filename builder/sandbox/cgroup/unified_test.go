package cgroup

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var everything = Limits{Memory: 64 << 20, CPUs: 1.5, Shares: 1024, PIDs: 50}

// TestOwnScope checks that the program moves from a cgroup without other processes to a
// leaf, and back.
func TestOwnScope(t *testing.T) {
	m := newModel(t, "/user.slice/build.scope", "cpu memory pids")
	maker, err := m.open(everything)
	must(t, err)
	g, err := maker.New()
	must(t, err)
	want := `/
/cgroup.subtree_control: cpu memory pids
/user.slice/
/user.slice/build.scope/
/user.slice/build.scope/cairn-self-N/
/user.slice/build.scope/cairn-self-N/cgroup.procs: PROGRAM OUTER 77
/user.slice/build.scope/cairn-step-N/
/user.slice/build.scope/cairn-step-N/cpu.max: 150000 100000
/user.slice/build.scope/cairn-step-N/cpu.weight: 39
/user.slice/build.scope/cairn-step-N/memory.max: 67108864
/user.slice/build.scope/cairn-step-N/memory.swap.max: 67108864
/user.slice/build.scope/cairn-step-N/pids.max: 50
/user.slice/build.scope/cgroup.subtree_control: memory cpu pids
/user.slice/cgroup.subtree_control: cpu memory pids
`
	if got := m.tree(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	must(t, g.Remove())
	must(t, maker.Close())
	if got := m.tree(); got != m.before {
		t.Errorf("after it\n%swant\n%s", got, m.before)
	}
}

func TestRootCgroup(t *testing.T) {
	m := newModel(t, "/", "memory pids")
	maker, err := m.open(Limits{Memory: 1 << 20, Swap: -1, PIDs: 3})
	must(t, err)
	_, err = maker.New()
	must(t, err)
	want := "/\n/cairn-step-N/\n/cairn-step-N/memory.max: 1048576\n/cairn-step-N/pids.max: 3\n" +
		"/cgroup.procs: PROGRAM OUTER 77\n/cgroup.subtree_control: memory pids\n"
	if got := m.tree(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestParent checks that a named parent cgroup is made, gets controllers, and is removed.
func TestParent(t *testing.T) {
	m := newModel(t, "/session", "cpu memory pids")
	m.file(m.mount+"/cgroup.subtree_control", "")
	maker, err := m.open(Limits{PIDs: 9, Parent: "/builds/../builds/all"})
	must(t, err)
	_, err = maker.New()
	must(t, err)
	want := `/
/builds/
/builds/all/
/builds/all/cairn-step-N/
/builds/all/cairn-step-N/pids.max: 9
/builds/all/cgroup.subtree_control: pids
/builds/cgroup.subtree_control: pids
/cgroup.subtree_control: pids
/session/
/session/cgroup.procs: PROGRAM OUTER 77
`
	if got := m.tree(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	second, err := m.open(Limits{PIDs: 9, Parent: "/builds/all"})
	must(t, err)
	must(t, second.Close())
	if got := m.tree(); got != want { // the first maker still uses it
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestParentBelowOwn has a parent below the cgroup of the process, which has to move.
func TestParentBelowOwn(t *testing.T) {
	m := newModel(t, "/build.scope", "memory")
	maker, err := m.open(Limits{Memory: 1 << 20, Parent: "steps"})
	must(t, err)
	g, err := maker.New()
	must(t, err)
	if got, want := g.held[0].dir, m.mount+"/build.scope/steps/"; !strings.HasPrefix(got, want) {
		t.Errorf("the group is %s, want one in %s", got, want)
	}
	must(t, g.Remove())
	must(t, maker.Close())
	if got := m.tree(); got != m.before {
		t.Errorf("after it\n%swant\n%s", got, m.before)
	}
}

// TestRefused checks that unmet requirements are reported with a remedy, and that nothing is
// changed.
func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits Limits
		edit   func(m *model)
		want   string
	}{
		{"foreign processes", Limits{Memory: 1 << 20}, func(m *model) {
			m.file(m.mount+"/own/cgroup.procs", fmt.Sprintf("%d\n%d\n", os.Getpid(), foreigner))
		}, "other processes (536870913) are in the cgroup CG/own: limits cannot be set below it: start cairn in its own cgroup (systemd-run --user --scope -p Delegate=yes cairn build ...; in a container, as its only program), or name another cgroup with --cgroup-parent"},
		{"another container's", Limits{Memory: 1 << 20}, func(m *model) {
			m.Root = true
			m.file(m.mount+"/own/cgroup.procs", fmt.Sprintf("%d\n0\n0\n", os.Getpid()))
		}, "processes of another container are in the cgroup CG/own: limits cannot be set below it: start cairn in its own cgroup (systemd-run --scope -p Delegate=yes cairn build ...; in a container, as its only program), or name another cgroup with --cgroup-parent"},
		{"parent in use", Limits{PIDs: 1, Parent: "/used"}, func(m *model) {
			must(m.t, m.makeDir(m.mount+"/used"))
			m.file(m.mount+"/used/cgroup.procs", fmt.Sprintf("%d\n", foreigner))
		}, "other processes (536870913) are in the cgroup CG/used: "},
		{"not delegated", Limits{CPUs: 1}, func(m *model) { m.equip(m.mount+"/own", []string{"memory", "pids"}) },
			"the cgroup CG/own does not have the controller cpu (available: memory, pids): delegate it to users with systemd (as root: systemctl edit user@.service, [Service] Delegate=cpu memory pids; then log in again), or name another cgroup with --cgroup-parent"},
		{"not allowed", Limits{CPUs: 1}, func(m *model) { m.deny["/own"] = unix.EACCES },
			"the cgroup CG/own may not be changed (permission denied): start cairn in its own cgroup (systemd-run --user "},
		{"entering not allowed", Limits{CPUs: 1}, func(m *model) { m.try = func([]string) error { return unix.EACCES } },
			"the cgroup CG/own/cairn-step-N may not be changed (permission denied): start cairn in its own cgroup"},
		{"parent not allowed", Limits{Parent: "/a/b"}, func(m *model) { m.deny[""] = unix.EACCES },
			"the cgroup CG may not be changed (permission denied): "},
		{"read-only", Limits{Parent: "x"}, func(m *model) { m.deny["/own"] = unix.EROFS },
			"the cgroup CG/own is mounted read-only: limit the container that cairn runs in (in a pod: resources.limits), or give it a writable /sys/fs/cgroup (docker run --privileged)"},
		{"no swap", Limits{Memory: 1 << 20, Swap: 1 << 21}, func(m *model) { m.noSwap = true },
			"the kernel does not account swap: leave out --memory-swap"},
		{"not mounted", Limits{PIDs: 1}, func(m *model) { m.file(m.proc+"/mountinfo", "25 1 0:22 / /proc rw - proc proc rw\n") },
			"no cgroup file system with the controller pids is mounted: mount one on /sys/fs/cgroup, or set the limit of the container that cairn runs in"},
		{"none at all", Limits{Parent: "/x"}, func(m *model) { m.file(m.proc+"/mountinfo", "") },
			"no cgroup file system is mounted: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newModel(t, "/own", "cpu memory pids")
			test.edit(m)
			before := m.tree()
			_, err := m.open(test.limits)
			_, ok := errors.AsType[*Requirement](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			got := named.ReplaceAllString(strings.ReplaceAll(err.Error(), m.mount, "CG"), "${1}N")
			if want := "cannot limit steps: " + test.want; !strings.HasPrefix(got, want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if after := m.tree(); after != before {
				t.Errorf("changed to\n%sfrom\n%s", after, before)
			}
		})
	}
}

// TestNoSwapCounted checks that the default limit of swap is optional.
func TestNoSwapCounted(t *testing.T) {
	m := newModel(t, "/own", "memory")
	m.noSwap = true
	maker, err := m.open(Limits{Memory: 1 << 20})
	must(t, err)
	must(t, maker.Close())
}

func TestReached(t *testing.T) {
	m := newModel(t, "/own", "memory pids")
	maker, err := m.open(Limits{Memory: 512 << 20, PIDs: 7})
	must(t, err)
	for _, test := range []struct{ memory, pids, want string }{
		{"oom 0\noom_kill 0\n", "max 0\n", ""},
		{"oom 2\noom_kill 0\n", "max 0\n", ""},
		{"low 0\noom 1\noom_kill 1\noom_group_kill 0\n", "max 0\n", "it reached the memory limit of 512MiB (--memory)"},
		{"oom 1\noom_kill 3\n", "max 5\n", "it reached the memory limit of 512MiB (--memory)"},
		{"oom 0\noom_kill 1\n", "max 0\n", "the kernel killed a process because the memory of the machine, or of the container that Cairn runs in, was used up"},
		{"oom 0\noom_kill 0\n", "max 5\n", "it reached the limit of 7 processes (--pids-limit)"},
	} {
		g, err := maker.New()
		must(t, err)
		m.file(g.held[0].dir+"/memory.events", test.memory)
		m.file(g.held[0].dir+"/pids.events", test.pids)
		if got := g.Reached(); got != test.want {
			t.Errorf("%q, %q: %q, want %q", test.memory, test.pids, got, test.want)
		}
	}
}

// TestLeftovers checks that groups without a lock and a process are removed.
func TestLeftovers(t *testing.T) {
	m := newModel(t, "/", "pids")
	maker, err := m.open(Limits{PIDs: 5})
	must(t, err)
	held, err := maker.New()
	must(t, err)
	defer runtime.KeepAlive(held) // a finalizer would release its lock
	keep := []string{held.held[0].dir, m.mount + "/cairn-step-x", m.mount + "/cairn-step-0000000100000001", m.mount + "/other/deep"}
	gone := []string{m.mount + "/cairn-step-0000000100000002", m.mount + "/cairn-self-0000000100000003"}
	for _, dir := range append(append([]string{m.mount + "/other"}, keep[1:]...), gone...) {
		must(t, m.makeDir(dir))
	}
	must(t, m.makeDir(gone[0]+"/below"))
	m.file(keep[2]+"/cgroup.procs", fmt.Sprintln(foreigner))
	second, err := m.open(Limits{PIDs: 6})
	must(t, err)
	check := func() {
		t.Helper()
		for _, dir := range keep {
			if _, err := os.Stat(dir); err != nil {
				t.Error(err)
			}
		}
		for _, dir := range gone {
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s is still there", dir)
			}
		}
	}
	check()
	// A group whose process has ended is removed.
	m.file(keep[2]+"/cgroup.procs", "")
	gone = append(gone, keep[2])
	keep = slices.Delete(keep, 2, 3)
	must(t, second.Close())
	check()
	// In other cgroups, only old groups are removed.
	fresh := m.mount + "/other/deep/" + newName(groupPrefix)
	keep = append(keep, fresh)
	gone = append(gone, m.mount+"/other/deep/cairn-step-0000000100000004")
	must(t, m.makeDir(fresh))
	must(t, m.makeDir(gone[3]))
	m.sweepAll(time.Now().Add(-minAge))
	check()
}

// TestEnded checks that processes left by a command are killed before its group is removed.
func TestEnded(t *testing.T) {
	m := newModel(t, "/", "pids")
	maker, err := m.open(Limits{PIDs: 5})
	must(t, err)
	g, err := maker.New()
	must(t, err)
	m.file(g.held[0].dir+"/cgroup.procs", fmt.Sprintln(foreigner))
	must(t, g.Remove())
	if left := folders(m.mount); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestNothingWithoutLimits(t *testing.T) {
	maker, err := Open(Limits{}, Caller{})
	if maker != nil || err != nil {
		t.Fatal(maker, err)
	}
	g, err := maker.New()
	if g.Files() != nil || g.Reached() != "" || err != nil || g.Remove() != nil || maker.Close() != nil {
		t.Error(g, err)
	}
}

// Makers with several limits use the same places, and each group has only its own limits.
func TestOtherLimits(t *testing.T) {
	m := newModel(t, "/user.slice/build.scope", "memory pids")
	maker, err := m.open(Limits{}, Limits{Memory: 64 << 20, Swap: -1}, Limits{PIDs: 7}, Limits{}, Limits{PIDs: 7})
	must(t, err)
	if len(maker.others) != 2 {
		t.Errorf("%d others, want 2", len(maker.others))
	}
	if g, err := maker.New(); g != nil || err != nil {
		t.Errorf("without limits: %v, %v", g, err)
	}
	if maker.Other(Limits{}) != nil || maker.Other(Limits{PIDs: 8}) != nil {
		t.Error("there is a maker for limits that were not given")
	}
	g, err := maker.Other(Limits{PIDs: 7}).New()
	must(t, err)
	if got := m.tree(); !strings.Contains(got, "cairn-step-N/pids.max: 7\n") || strings.Contains(got, "memory.max") {
		t.Errorf("got\n%s", got)
	}
	must(t, g.Remove())
	must(t, maker.Close())
	if got := m.tree(); got != m.before {
		t.Errorf("after it\n%swant\n%s", got, m.before)
	}
}
