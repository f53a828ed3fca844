package sandbox

import (
	"fmt"
	"os"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
)

// Requirement is an unmet requirement of a feature, such as an isolation mode.
type Requirement = cgroup.Requirement

func requirement(feature, problem, remedy string) Requirement {
	return Requirement{Feature: feature, Problem: problem, Remedy: remedy}
}

// OpenCgroups returns a maker of control groups with the given limits; its method Other
// returns makers with the others. It is nil without limits. Close it after the last
// command. If the machine does not allow such groups, the error wraps a [*Requirement].
// The mode Gvisor has no limits.
func (i Isolation) OpenCgroups(l cgroup.Limits, others ...cgroup.Limits) (*cgroup.Maker, error) {
	if i.Mode == Gvisor {
		for _, l := range append(others, l) {
			if l != (cgroup.Limits{}) {
				r := guestLimits()
				return nil, fmt.Errorf("cannot limit steps: %w", &r)
			}
		}
		return nil, nil
	}
	return cgroup.With(l, others, i.cgroupCaller())
}

// guestLimits is the requirement of limits in the mode Gvisor.
func guestLimits() Requirement {
	return requirement(cgroup.Feature, "the isolation mode gvisor does not limit commands one by one",
		"limit the container that cairn runs in (in a pod: resources.limits), or use another mode (--isolation)")
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
