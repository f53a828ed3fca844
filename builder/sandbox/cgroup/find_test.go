package cgroup

import (
	"os"
	"reflect"
	"regexp"
	"testing"
)

var named = regexp.MustCompile(`(cairn-(?:step|self)-)[0-9a-f]{16}`)

// TestHierarchies has mounts of both versions, and of containers.
func TestHierarchies(t *testing.T) {
	for _, test := range []struct {
		name, groups, mounts string
		want                 []hierarchy
	}{
		{"version 2", "0::/user.slice/a b\n", "30 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			[]hierarchy{{true, nil, "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/a b"}}},
		{"both", "4:memory:/x\n2:cpu,cpuacct:/\n9:name=systemd:/\n0::/x\n",
			"31 30 0:28 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n34 30 0:31 / /cg/memory rw - cgroup cgroup rw,memory\n40 30 0:37 / /cg/unified rw - cgroup2 cgroup2 rw\n",
			[]hierarchy{{false, []string{"memory"}, "/cg/memory", "/cg/memory/x"},
				{false, []string{"cpu", "cpuacct"}, "/cg/cpu,cpuacct", "/cg/cpu,cpuacct"},
				{true, nil, "/cg/unified", "/cg/unified/x"}}},
		{"container with the machine's paths", "4:memory:/docker/1\n",
			"34 30 0:31 /docker/1 /cg/memory ro - cgroup cgroup rw,memory\n",
			[]hierarchy{{false, []string{"memory"}, "/cg/memory", "/cg/memory"}}},
		{"outside of what is shown", "0::/../other\n", "30 22 0:27 / /cg rw - cgroup2 cgroup2 rw\n",
			nil},
		{"shown elsewhere", "0::/docker/1\n", "30 22 0:27 /docker/2 /a rw - cgroup2 cgroup2 rw\n30 22 0:27 / /b rw - cgroup2 cgroup2 rw\n",
			[]hierarchy{{true, nil, "/b", "/b/docker/1"}}},
		{"mounted over", "4:memory:/x\n", "34 30 0:31 / /proc rw - cgroup cgroup rw,memory\n34 30 0:31 /x /proc rw - cgroup cgroup ro,memory\n35 30 0:31 / /nowhere rw - cgroup cgroup rw,memory\n",
			[]hierarchy{{false, []string{"memory"}, "/proc", "/proc"}}},
		{"hardly any", "garbage\n\n", "x - cgroup2\n", nil},
	} {
		dir := t.TempDir()
		must(t, os.WriteFile(dir+"/cgroup", []byte(test.groups), 0o644))
		must(t, os.WriteFile(dir+"/mountinfo", []byte(test.mounts), 0o644))
		got, err := (&kernel{proc: dir}).hierarchies()
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v; want %+v", test.name, got, err, test.want)
		}
	}
}

// TestSettings checks the settings of both versions for the same limits.
func TestSettings(t *testing.T) {
	for _, test := range []struct {
		limits     Limits
		controller string
		one, two   []setting
	}{
		{Limits{Memory: 100}, "memory",
			[]setting{{"memory.limit_in_bytes", "100", false}, {"memory.memsw.limit_in_bytes", "200", true}},
			[]setting{{"memory.max", "100", false}, {"memory.swap.max", "100", true}}},
		{Limits{Memory: 100, Swap: 100}, "memory",
			[]setting{{"memory.limit_in_bytes", "100", false}, {"memory.memsw.limit_in_bytes", "100", false}},
			[]setting{{"memory.max", "100", false}, {"memory.swap.max", "0", false}}},
		{Limits{Memory: 100, Swap: -1}, "memory",
			[]setting{{"memory.limit_in_bytes", "100", false}}, []setting{{"memory.max", "100", false}}},
		{Limits{CPUs: 0.01}, "cpu",
			[]setting{{"cpu.cfs_period_us", "100000", false}, {"cpu.cfs_quota_us", "1000", false}},
			[]setting{{"cpu.max", "1000 100000", false}}},
		{Limits{Quota: 5000, Period: 20000, Shares: 2}, "cpu",
			[]setting{{"cpu.cfs_period_us", "20000", false}, {"cpu.cfs_quota_us", "5000", false}, {"cpu.shares", "2", false}},
			[]setting{{"cpu.max", "5000 20000", false}, {"cpu.weight", "1", false}}},
		{Limits{Period: 20000, Shares: 262144}, "cpu",
			[]setting{{"cpu.cfs_period_us", "20000", false}, {"cpu.shares", "262144", false}},
			[]setting{{"cpu.max", "max 20000", false}, {"cpu.weight", "10000", false}}},
		{Limits{PIDs: 3}, "pids", []setting{{"pids.max", "3", false}}, []setting{{"pids.max", "3", false}}},
	} {
		if got := test.limits.settings1(test.controller); !reflect.DeepEqual(got, test.one) {
			t.Errorf("%+v: version 1: %v, want %v", test.limits, got, test.one)
		}
		if got := test.limits.settings2(test.controller); !reflect.DeepEqual(got, test.two) {
			t.Errorf("%+v: version 2: %v, want %v", test.limits, got, test.two)
		}
	}
}
