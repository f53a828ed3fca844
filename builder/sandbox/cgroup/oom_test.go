package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// oomMachine is a machine with files about processes that were killed for lack of memory.
type oomMachine struct {
	*kernel
	dir string
}

func (m oomMachine) put(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		must(t, os.MkdirAll(filepath.Dir(m.dir+"/"+name), 0o755))
		must(t, os.WriteFile(m.dir+"/"+name, []byte(text), 0o644))
	}
}

func newOOMMachine(t *testing.T, files map[string]string) oomMachine {
	t.Helper()
	m := oomMachine{thisKernel(Caller{}), t.TempDir()}
	m.proc = m.dir + "/proc/self"
	m.put(t, files)
	m.put(t, map[string]string{
		"proc/self/mountinfo": "26 25 0:23 / " + m.dir + "/cg2 rw - cgroup2 cgroup2 rw\n36 25 0:31 / " + m.dir + "/cg1 rw - cgroup cgroup rw,memory\n",
	})
	return m
}

// TestReason checks the message about a command that was killed while the files of the
// machine changed.
func TestReason(t *testing.T) {
	const (
		limit   = "the kernel killed a process because the memory limit of the container or pod that cairn runs in (64MiB) was reached: raise it (in a pod: resources.limits.memory)"
		outside = "the kernel killed a process because the memory of the machine, or of the pod that cairn runs in, was used up"
		likely  = "the kernel killed a process of this machine for lack of memory, likely one of this command"
		unknown = "status 137 means that a process was killed, likely because the memory limit"
	)
	v2 := map[string]string{
		"proc/self/cgroup": "0::/pod/box\n", "proc/vmstat": "nr_x 5\noom_kill 3\n",
		"cg2/pod/box/memory.events": "oom 1\noom_kill 1\n", "cg2/pod/box/memory.max": "67108864\n",
		"cg2/pod/memory.events": "oom 1\noom_kill 1\n", "cg2/pod/memory.max": "max\n",
	}
	v1 := map[string]string{
		"proc/self/cgroup": "4:memory:/pod/box\n0::/\n", "proc/vmstat": "oom_kill 3\n",
		"cg1/pod/box/memory.oom_control": "under_oom 0\noom_kill 1\n", "cg1/pod/box/memory.failcnt": "7\n", "cg1/pod/box/memory.limit_in_bytes": "67108864\n",
		"cg1/pod/memory.oom_control": "oom_kill 0\n", "cg1/pod/memory.failcnt": "0\n", "cg1/pod/memory.limit_in_bytes": "9223372036854771712\n",
	}
	none := map[string]string{"proc/self/cgroup": "0::/../../other\n", "proc/vmstat": "oom_kill 3\n"}
	for _, test := range []struct {
		name           string
		before, change map[string]string
		status         int
		want           string
	}{
		{"nothing", v2, nil, 137, ""},
		{"v2 limit", v2, map[string]string{"proc/vmstat": "oom_kill 4\n", "cg2/pod/box/memory.events": "oom 2\noom_kill 2\n", "cg2/pod/memory.events": "oom 2\noom_kill 2\n"}, 137, limit},
		{"v2 limit, of a child", v2, map[string]string{"proc/vmstat": "oom_kill 4\n", "cg2/pod/box/memory.events": "oom 2\noom_kill 2\n"}, 2, limit},
		{"v2 success", v2, map[string]string{"proc/vmstat": "oom_kill 4\n", "cg2/pod/box/memory.events": "oom 2\noom_kill 2\n"}, 0, ""},
		{"v2 limit of the pod", v2, map[string]string{
			"proc/vmstat": "oom_kill 4\n", "cg2/pod/box/memory.events": "oom 1\noom_kill 2\n", "cg2/pod/memory.events": "oom 2\noom_kill 2\n", "cg2/pod/memory.max": "67108864\n",
		}, 137, limit},
		{"v2 machine", v2, map[string]string{"proc/vmstat": "oom_kill 4\n", "cg2/pod/box/memory.events": "oom 1\noom_kill 2\n", "cg2/pod/memory.events": "oom 1\noom_kill 2\n"}, 137, outside},
		{"v2 another container", v2, map[string]string{"proc/vmstat": "oom_kill 4\n"}, 1, ""},
		{"v2 another container, killed", v2, map[string]string{"proc/vmstat": "oom_kill 4\n"}, 137, likely},
		{"v1 limit", v1, map[string]string{"proc/vmstat": "oom_kill 4\n", "cg1/pod/box/memory.oom_control": "oom_kill 2\n", "cg1/pod/box/memory.failcnt": "9\n"}, 137, limit},
		{"v1 limit of the pod", v1, map[string]string{
			"proc/vmstat": "oom_kill 4\n", "cg1/pod/box/memory.oom_control": "oom_kill 2\n", "cg1/pod/memory.failcnt": "9\n", "cg1/pod/memory.limit_in_bytes": "67108864\n",
		}, 137, limit},
		{"v1 machine", v1, map[string]string{"proc/vmstat": "oom_kill 4\n", "cg1/pod/box/memory.oom_control": "oom_kill 2\n"}, 137, outside},
		{"no cgroup is visible", none, map[string]string{"proc/vmstat": "oom_kill 4\n"}, 137, likely},
		{"no cgroup is visible, nothing", none, nil, 137, ""},
		{"no cgroup is visible, another status", none, map[string]string{"proc/vmstat": "oom_kill 4\n"}, 1, ""},
		{"nothing is known", map[string]string{"proc/vmstat": "nr_x 1\n"}, nil, 137, unknown},
		{"nothing is known, another status", map[string]string{}, nil, 1, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newOOMMachine(t, test.before)
			w := m.watch()
			m.put(t, test.change)
			got := w.reason(m.kernel, test.status)
			if !strings.HasPrefix(got, test.want) || (got == "") != (test.want == "") {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
