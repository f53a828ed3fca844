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
// command. If the machine does not allow such groups, the error wraps a [*Requirement]. In
// the mode Gvisor the kernel of the commands enforces their limits.
func (i Isolation) OpenCgroups(l cgroup.Limits, others ...cgroup.Limits) (*cgroup.Maker, error) {
	if i.Mode != Gvisor {
		return cgroup.With(l, others, i.cgroupCaller())
	}
	for _, l := range append(others, l) {
		if flag := notInGuest(l); flag != "" {
			r := guestLimits(flag)
			return nil, fmt.Errorf("cannot limit steps: %w", &r)
		}
	}
	return cgroup.Elsewhere(l, others), nil
}

// guestResources are the resources that can be limited in the mode Gvisor.
var guestResources = []string{"memory", "pids"}

// notInGuest returns the flag of a limit that the mode Gvisor does not have, "" if it has
// all. Memory is never swapped by its kernel.
func notInGuest(l cgroup.Limits) string {
	switch {
	case l.CPUs != 0:
		return "--cpus"
	case l.Quota != 0:
		return "--cpu-quota"
	case l.Period != 0:
		return "--cpu-period"
	case l.Shares != 0:
		return "--cpu-shares"
	case l.Swap != 0 && l.Swap != l.Memory:
		return "--memory-swap"
	case l.Parent != "":
		return "--cgroup-parent"
	}
	return ""
}

// guestLimits is the requirement of a limit that the mode Gvisor does not have.
func guestLimits(flag string) Requirement {
	return requirement(cgroup.Feature, "the isolation mode gvisor limits the memory and processes of a step, and has no "+flag,
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
