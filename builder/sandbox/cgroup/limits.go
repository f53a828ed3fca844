package cgroup

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/docker/go-units"
)

// Limits are what a command may use. The zero value of each is none.
type Limits struct {
	Memory int64   // bytes
	Swap   int64   // bytes of memory and swap together; -1 is any amount, 0 twice Memory where swap is counted
	CPUs   float64 // processors
	Quota  int64   // microseconds of a processor in each Period, in place of CPUs
	Period int64   // microseconds; 0 is 100000
	Shares int64   // weight beside other groups; 1024 is what others have
	PIDs   int64   // processes and threads
	// Parent is the cgroup that groups are made below, made if it is missing: from the
	// hierarchy's root if it begins with "/", else from the one of this process, which
	// is also what "" is.
	Parent string
}

// defaultPeriod is the kernel's, in microseconds.
const defaultPeriod = 100000

// Check finds limits that contradict each other.
func (l Limits) Check() error {
	switch {
	case l.Swap != 0 && l.Memory == 0:
		return errors.New("--memory-swap is memory and swap together: it needs --memory")
	case l.Swap > 0 && l.Swap < l.Memory:
		return errors.New("--memory-swap is memory and swap together: it can't be less than --memory")
	case l.CPUs != 0 && (l.Quota != 0 || l.Period != 0):
		return errors.New("--cpus says what --cpu-quota and --cpu-period say: give one or the others")
	}
	return nil
}

// controllers are the parts of the kernel that are needed.
func (l Limits) controllers() (list []string) {
	if l.Memory != 0 {
		list = append(list, "memory")
	}
	if l.CPUs != 0 || l.Quota != 0 || l.Period != 0 || l.Shares != 0 {
		list = append(list, "cpu")
	}
	if l.PIDs != 0 {
		list = append(list, "pids")
	}
	return list
}

// quota is the time of processors in each period; 0 is any amount.
func (l Limits) quota() (quota, period int64) {
	period = l.Period
	if period == 0 {
		period = defaultPeriod
	}
	if l.CPUs != 0 {
		return int64(math.Round(l.CPUs * float64(period))), period
	}
	return l.Quota, period
}

// setting is one file of a group.
type setting struct {
	file, text string
	optional   bool // some kernels have no such file, and nobody has asked for it
}

// settings1 are those of a controller of version 1.
func (l Limits) settings1(controller string) (list []setting) {
	switch controller {
	case "memory":
		list = append(list, setting{"memory.limit_in_bytes", text(l.Memory), false})
		if total := l.total(); total > 0 {
			list = append(list, setting{"memory.memsw.limit_in_bytes", text(total), l.Swap == 0})
		}
	case "cpu":
		quota, period := l.quota()
		if l.Period != 0 || quota != 0 {
			list = append(list, setting{"cpu.cfs_period_us", text(period), false})
		}
		if quota != 0 {
			list = append(list, setting{"cpu.cfs_quota_us", text(quota), false})
		}
		if l.Shares != 0 {
			list = append(list, setting{"cpu.shares", text(l.Shares), false})
		}
	case "pids":
		list = append(list, setting{"pids.max", text(l.PIDs), false})
	}
	return list
}

// settings2 are those of a controller of version 2.
func (l Limits) settings2(controller string) (list []setting) {
	switch controller {
	case "memory":
		list = append(list, setting{"memory.max", text(l.Memory), false})
		if total := l.total(); total > 0 {
			list = append(list, setting{"memory.swap.max", text(total - l.Memory), l.Swap == 0})
		}
	case "cpu":
		quota, period := l.quota()
		switch {
		case quota != 0:
			list = append(list, setting{"cpu.max", text(quota) + " " + text(period), false})
		case l.Period != 0:
			list = append(list, setting{"cpu.max", "max " + text(period), false})
		}
		if l.Shares != 0 {
			// As container runtimes do: 2 to 262144 become 1 to 10000.
			list = append(list, setting{"cpu.weight", text(1 + (l.Shares-2)*9999/262142), false})
		}
	case "pids":
		list = append(list, setting{"pids.max", text(l.PIDs), false})
	}
	return list
}

// total is memory and swap together, in bytes; -1 is any amount.
func (l Limits) total() int64 {
	switch {
	case l.Swap != 0:
		return l.Swap
	case l.Memory > math.MaxInt64/2:
		return -1
	}
	return 2 * l.Memory
}

func text(n int64) string { return strconv.FormatInt(n, 10) }

// Hits says which limits a command has come up against.
type Hits struct {
	Memory  bool // a process was killed for it
	Outside bool // a process was killed as memory was short around the group
	PIDs    bool // a process could not be started for it
}

// Reached says so in words; "" is none of them.
func (l Limits) Reached(h Hits) string {
	switch {
	case h.Memory:
		return fmt.Sprintf("it reached the memory limit of %s (--memory)", units.BytesSize(float64(l.Memory)))
	case h.Outside:
		return "the kernel killed a process, as the memory of the machine, or of what Cairn itself runs in, was used up"
	case h.PIDs:
		return fmt.Sprintf("it reached the limit of %d processes (--pids-limit)", l.PIDs)
	}
	return ""
}
