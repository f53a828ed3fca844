package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
)

// cgroupFlags read docker's limits that the kernel keeps for a group of processes;
// whose is who has them.
func cgroupFlags(f *pflag.FlagSet, l *cgroup.Limits, whose string) {
	add := func(name, short, kind, usage string, set func(string) error) {
		f.VarP(&parsed{kind: kind, set: set}, name, short, usage)
	}
	add("memory", "m", "SIZE", "memory that "+whose+" may use, as 2g", func(s string) (err error) {
		if l.Memory, err = memorySize(s); err == nil && l.Memory < leastMemory {
			return errors.New("want 6m or more: no step can be started with less")
		}
		return err
	})
	add("memory-swap", "", "SIZE", "memory and swap together; -1 for any amount (default twice --memory)", func(s string) (err error) {
		if s == "-1" {
			l.Swap = -1
			return nil
		}
		l.Swap, err = memorySize(s)
		return err
	})
	add("cpus", "", "N", "processors that "+whose+" may use, as 1.5", func(s string) (err error) {
		const most = 1 << 16
		if l.CPUs, err = strconv.ParseFloat(s, 64); err != nil || !(l.CPUs >= 0.01 && l.CPUs <= most) {
			return errors.New("want a number of processors from 0.01 on, such as 1.5")
		}
		return nil
	})
	add("cpu-quota", "", "N", "microseconds of a processor in each --cpu-period, in place of --cpus", number(&l.Quota, 1000, 1<<40))
	add("cpu-period", "", "N", "microseconds, from 1000 to 1000000 (default 100000)", number(&l.Period, 1000, 1000000))
	add("cpu-shares", "c", "N", "weight beside others when processors are short, who have 1024", number(&l.Shares, 2, 1<<18))
	add("pids-limit", "", "N", "processes and threads that "+whose+" may have; -1 for any number", func(s string) error {
		if s == "-1" || s == "0" {
			l.PIDs = 0
			return nil
		}
		return number(&l.PIDs, 1, 1<<22)(s)
	})
	add("cgroup-parent", "", "PATH", "make the cgroup of "+whose+" in this one, and not in cairn's own", func(s string) error {
		if s == "" {
			return errors.New("want the path of a cgroup, such as /builds")
		}
		l.Parent = s
		return nil
	})
	for _, name := range []string{"cpuset-cpus", "cpuset-mems"} {
		refusedFlag(f, name, "steps use the processors and memory nodes that cairn itself may use: start it with taskset or numactl")
	}
}

// leastMemory is docker's least, too: with less the kernel can't prepare a step.
const leastMemory = 6 << 20

// memorySize reads a number of bytes, in docker's binary units.
func memorySize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n <= 0 {
		return 0, errors.New("want a size, such as 512m or 2g")
	}
	return n, nil
}

// number reads a whole number in a range.
func number(to *int64, least, most int64) func(string) error {
	return func(s string) (err error) {
		if *to, err = strconv.ParseInt(s, 10, 64); err != nil || *to < least || *to > most {
			return fmt.Errorf("want a number from %d to %d", least, most)
		}
		return nil
	}
}
