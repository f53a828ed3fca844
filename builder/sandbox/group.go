package sandbox

import (
	"os"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
)

// Limit finds out whether commands can be kept to limits, and makes control groups for
// that. Without limits the maker is nil. Close it after the last command. The error is
// a [*cgroup.Lack] where the machine does not grant it.
func (i Isolation) Limit(l cgroup.Limits) (*cgroup.Maker, error) {
	return cgroup.Open(l, i.caller())
}

// caller is this process, with the one that waits for it outside its user namespace.
func (i Isolation) caller() cgroup.Caller {
	uid, _ := HostIDs()
	c := cgroup.Caller{Root: uid == 0, PIDs: []int{os.Getpid()}}
	if i.Rung == Rootless {
		c.PIDs = append(c.PIDs, os.Getppid())
	}
	return c
}
