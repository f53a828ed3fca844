package command

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
)

// cgroupFlags adds the flags of docker run for the limits of a cgroup. subject is
// the process with the limits, as in "each RUN".
func cgroupFlags(f *pflag.FlagSet, l *cgroup.Limits, subject string) {
	parsedFlag(f, "memory", "m", "SIZE", "Memory limit of "+subject+", such as 2g", func(s string) (err error) {
		if l.Memory, err = option.ParseMemory(s); err == nil && l.Memory < minMemory {
			return errors.New("want 6m or more: a step cannot start with less")
		}
		return err
	})
	parsedFlag(f, "memory-swap", "", "SIZE", "Limit of memory plus swap; -1 for unlimited swap (default: twice --memory)", func(s string) (err error) {
		if s == "-1" {
			l.Swap = -1
			return nil
		}
		l.Swap, err = option.ParseMemory(s)
		return err
	})
	parsedFlag(f, "cpus", "", "N", "Number of CPUs of "+subject+", such as 1.5", func(s string) (err error) {
		const most = 1 << 16
		if l.CPUs, err = strconv.ParseFloat(s, 64); err != nil || !(l.CPUs >= 0.01 && l.CPUs <= most) {
			return errors.New("want a number of CPUs of at least 0.01, such as 1.5")
		}
		return nil
	})
	parsedFlag(f, "cpu-quota", "", "N", "CPU CFS (Completely Fair Scheduler) quota, in microseconds of each --cpu-period", numberIn(&l.Quota, 1000, 1<<40))
	parsedFlag(f, "cpu-period", "", "N", "CPU CFS (Completely Fair Scheduler) period in microseconds, from 1000 to 1000000 (default 100000)", numberIn(&l.Period, 1000, 1000000))
	parsedFlag(f, "cpu-shares", "c", "N", "CPU shares (relative weight; other processes have 1024)", numberIn(&l.Shares, 2, 1<<18))
	parsedFlag(f, "pids-limit", "", "N", "Limit of processes and threads of "+subject+"; -1 for unlimited", func(s string) error {
		if s == "-1" || s == "0" {
			l.PIDs = 0
			return nil
		}
		return numberIn(&l.PIDs, 1, 1<<22)(s)
	})
	parsedFlag(f, "cgroup-parent", "", "PATH", "Parent cgroup of "+subject+" (default: the cgroup of cairn)", func(s string) error {
		if s == "" {
			return errors.New("want the path of a cgroup, such as /builds")
		}
		l.Parent = s
		return nil
	})
}

// minMemory is the least memory in bytes with which the kernel can start a step.
// Docker has the same minimum.
const minMemory = 6 << 20

// numberIn parses a whole number in a range.
func numberIn(to *int64, least, most int64) func(string) error {
	return func(s string) (err error) {
		if *to, err = strconv.ParseInt(s, 10, 64); err != nil || *to < least || *to > most {
			return fmt.Errorf("want a number from %d to %d", least, most)
		}
		return nil
	}
}

// stepLimitFlags adds the limits of each RUN.
func stepLimitFlags(f *pflag.FlagSet, o *buildOptions) {
	parsedFlag(f, "shm-size", "", "SIZE", "Size of /dev/shm in each RUN (default 64m)", func(s string) (err error) {
		o.ShmSize, err = option.ParseMemory(s)
		return err
	})
	listFlag(f, &o.Ulimits, "ulimit", "", "NAME=SOFT[:HARD]", "Ulimit options of each RUN, such as nofile=1024", option.ParseUlimit)
	parsedFlag(f, "step-timeout", "", "DURATION", "Kill a RUN with all its processes after DURATION, such as 30m", func(s string) (err error) {
		o.StepTimeout, err = option.ParseDuration(s)
		return err
	})
	cgroupFlags(f, &o.StepResources, "each RUN")
}

// inputLimitFlag adds --limit.
func inputLimitFlag(f *pflag.FlagSet, to *limits.Limits) {
	repeatedFlag(f, "limit", "", "NAME=N", "Limit the size of downloaded layers and files: layer-entries, layer-size, layer-ratio or download-size", func(s string) error {
		name, n, err := option.ParseLimit(s)
		if err != nil {
			return err
		}
		return to.Set(name, n)
	})
}
