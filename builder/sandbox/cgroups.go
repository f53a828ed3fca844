package sandbox

import (
	"os"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
)

// Requirement is an unmet requirement of a feature, such as an isolation mode.
type Requirement = cgroup.Requirement

func requirement(feature, problem, remedy string) Requirement {
	return Requirement{Feature: feature, Problem: problem, Remedy: remedy}
}

// OpenCgroups returns a maker of control groups that have the given limits, and others
// that its method Other returns; it is nil without limits. Close it after the last command. If the machine does not allow such
// groups, the error wraps a [*Requirement].
func (i Isolation) OpenCgroups(l cgroup.Limits, others ...cgroup.Limits) (*cgroup.Maker, error) {
	return cgroup.With(l, others, i.cgroupCaller())
}

// cgroupCaller describes this process, together with the one that waits for it outside
// its user namespace.
func (i Isolation) cgroupCaller() cgroup.Caller {
	uid, _ := HostIDs()
	c := cgroup.Caller{Root: uid == 0, PIDs: []int{os.Getpid()}}
	if i.Mode == Rootless {
		c.PIDs = append(c.PIDs, os.Getppid())
	}
	return c
}
