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

// timed runs a command and measures its time and the memory of those of its processes
// that run the same program. Processes of steps do not count.
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
	// Use wait4's figure only for a process that ended before it was sampled: before
	// execve a child counts as large as this program.
	s.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok && s.peak == 0 {
		s.peak = usage.Maxrss << 10
	}
	return s, nil
}

// watch samples a process tree periodically and sends the highest total of resident
// bytes. The kernel keeps each process's peak, so only processes that live shorter than
// the sampling interval are missed.
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

// look returns the sum of the peaks of a process and its descendants.
func look(pid int, program string) int64 {
	proc := fmt.Sprintf("/proc/%d/", pid)
	exe, err := os.Readlink(proc + "exe")
	if err != nil || exe != program {
		return 0 // a step and its children
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

// highWater returns the peak resident size of a process, in bytes.
func highWater(proc string) int64 {
	kb, _ := strconv.ParseInt(strings.TrimSuffix(firstLine(proc+"status", "VmHWM:"), " kB"), 10, 64)
	return kb << 10
}
