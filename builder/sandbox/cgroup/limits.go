package cgroup

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/docker/go-units"
)

// Limits are limits on the resources of a command. A field that is 0 sets no limit.
type Limits struct {
	Memory int64   // bytes
	Swap   int64   // bytes of memory and swap together; -1 is unlimited, 0 is twice Memory if the kernel accounts swap
	CPUs   float64 // number of CPUs
	Quota  int64   // microseconds of CPU time in each Period; an alternative to CPUs
	Period int64   // microseconds; 0 is 100000
	Shares int64   // weight relative to other groups, which have 1024 by default
	PIDs   int64   // processes and threads
	// Parent is the cgroup below which groups are made. It is made if it is missing. It is
	// relative to the root of the hierarchy if it begins with "/", otherwise to the
	// cgroup of this process, which is also the default.
	Parent string
}

// defaultPeriod is the kernel's default, in microseconds.
const defaultPeriod = 100000

// Check returns an error if limits contradict each other.
func (l Limits) Check() error {
	switch {
	case l.Swap != 0 && l.Memory == 0:
		return errors.New("--memory-swap needs --memory: it limits memory and swap together")
	case l.Swap > 0 && l.Swap < l.Memory:
		return errors.New("--memory-swap is less than --memory: it limits memory and swap together")
	case l.CPUs != 0 && (l.Quota != 0 || l.Period != 0):
		return errors.New("--cpus cannot be combined with --cpu-quota and --cpu-period")
	}
	return nil
}

// controllers returns the cgroup controllers that the limits need.
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

// quota returns the CPU time in each period, 0 if unlimited; both in microseconds.
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

// setting is a value to write to a file of a group.
type setting struct {
	file, text string
	optional   bool // a default of Cairn's: skipped if the kernel does not have the file
}

// settings1 returns the settings for a controller of version 1.
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

// settings2 returns the settings for a controller of version 2.
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
			// Like container runtimes: map 2..262144 to 1..10000.
			list = append(list, setting{"cpu.weight", text(1 + (l.Shares-2)*9999/262142), false})
		}
	case "pids":
		list = append(list, setting{"pids.max", text(l.PIDs), false})
	}
	return list
}

// total returns the limit of memory and swap together in bytes, -1 if unlimited.
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

// Hits are the limits that a command has reached.
type Hits struct {
	Memory  bool // a process was killed because of the group's limit
	Outside bool // a process was killed because memory outside the group was short
	PIDs    bool // a process could not be started
}

// Reached returns a message about the limit that was reached, "" for none.
func (l Limits) Reached(h Hits) string {
	switch {
	case h.Memory:
		return fmt.Sprintf("it reached the memory limit of %s (--memory)", units.BytesSize(float64(l.Memory)))
	case h.Outside:
		return "the kernel killed a process because the memory of the machine, or of the container that Cairn runs in, was used up"
	case h.PIDs:
		return fmt.Sprintf("it reached the limit of %d processes (--pids-limit)", l.PIDs)
	}
	return ""
}
