package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// timed runs a command and measures it: its time, and the memory of the
// processes of the same program that it is made of. Steps' own do not count.
func timed(cmd *exec.Cmd) (sample, error) {
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	stop, peak := make(chan struct{}), make(chan int64)
	go watch(cmd.Process.Pid, stop, peak)
	err := cmd.Wait()
	s := sample{wall: time.Since(begin)}
	close(stop)
	s.peak = <-peak
	if err != nil {
		return s, fmt.Errorf("%s: %w\n%s", cmd, err, &log)
	}
	// What wait4 tells is only for a process that ended unseen: before its execve a
	// child counts as large as this program is.
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok && s.peak == 0 {
		s.peak = usage.Maxrss << 10
	}
	return s, nil
}

// watch looks at a tree of processes now and then, and gives the most that was
// resident of all that lived at once. The kernel keeps each one's peak, so that
// only those are missed that live shorter than the pause.
func watch(pid int, stop chan struct{}, peak chan int64) {
	program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	var most int64
	for {
		most = max(most, look(pid, program))
		select {
		case <-stop:
			peak <- most
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// look adds up the peaks of a process and of those below it.
func look(pid int, program string) int64 {
	proc := fmt.Sprintf("/proc/%d/", pid)
	exe, err := os.Readlink(proc + "exe")
	if err != nil || exe != program {
		return 0 // a step, and what it started
	}
	sum := highWater(proc)
	threads, _ := os.ReadDir(proc + "task")
	for _, t := range threads {
		children, _ := os.ReadFile(proc + "task/" + t.Name() + "/children")
		for _, child := range strings.Fields(string(children)) {
			if n, err := strconv.Atoi(child); err == nil {
				sum += look(n, program)
			}
		}
	}
	return sum
}

// highWater is the most that was resident of a process, in bytes.
func highWater(proc string) int64 {
	kb, _ := strconv.ParseInt(strings.TrimSuffix(firstLine(proc+"status", "VmHWM:"), " kB"), 10, 64)
	return kb << 10
}
