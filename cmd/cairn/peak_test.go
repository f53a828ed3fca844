package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdPeak watches the largest of the program's processes. The usage from wait4 does not
// serve, since before its execve a child is as large as this program.
func cmdPeak(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "peak MEGABYTES STATUS PROGRAM [ARG...]")
	most, err := strconv.Atoi(args[0])
	ts.Check(err)
	c := exec.Command("/bin/sh", append([]string{"-c", `exec "$@"`, "sh"}, args[2:]...)...)
	c.Dir, c.Env = ts.MkAbs("."), environment(ts)
	c.Stdout, c.Stderr = ts.Stdout(), ts.Stderr()
	ts.Check(c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	peak, pause := 0, time.NewTicker(5*time.Millisecond)
	defer pause.Stop()
	for running := true; running; {
		peak = max(peak, highWater(c.Process.Pid))
		select {
		case err = <-ended:
			running = false
		case <-pause.C:
		}
	}
	got, err := exitCode(err)
	ts.Check(err)
	ts.Logf("at most %d MB resident", peak>>10)
	if strconv.Itoa(got) != args[1] {
		ts.Fatalf("%s ended with status %d, not %s", args[2], got, args[1])
	}
	if peak == 0 || peak>>10 > most {
		ts.Fatalf("%s took %d MB of memory; more than 0 and no more than %d were to be", args[2], peak>>10, most)
	}
}

var residentPeak = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// highWater returns the peak resident size of a process or a descendant, in KiB.
func highWater(pid int) (kib int) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	if status, err := os.ReadFile(proc + "status"); err == nil {
		if m := residentPeak.FindSubmatch(status); m != nil {
			kib, _ = strconv.Atoi(string(m[1]))
		}
	}
	threads, _ := os.ReadDir(proc + "task")
	for _, t := range threads {
		children, _ := os.ReadFile(proc + "task/" + t.Name() + "/children")
		for _, child := range strings.Fields(string(children)) {
			if n, err := strconv.Atoi(child); err == nil {
				kib = max(kib, highWater(n))
			}
		}
	}
	return kib
}
