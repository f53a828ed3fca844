package main

import (
	"flag"
	"os"
	"testing"
)

var allInGVisor = flag.Bool("gvisor", false, "run all scripts about RUN in isolation mode gvisor, rather than half of them")

// aboutRun has the scripts about commands of steps: their results, mounts, users,
// network, limits, signals and time limits, and shells in steps that failed. Of these
// hostile_run and mount_secret are not there: in mode gvisor a step can write to a program
// that runs, and set the time of a file on a read-only mount. TestHostile of
// cmd/cairn-gvisor has its own list.
var aboutRun = []string{
	"bad_run", "interrupt", "keep_failed", "mount_bind", "run", "step_timeout", "user",
	"killed", "mount_cache", "mount_ssh", "network", "run_signals", "shell_on_error", "times",
}

// playInGVisor runs scripts as root, in isolation mode gvisor.
func playInGVisor(t *testing.T, hub string) {
	if _, err := os.Stat(gvisorProgram()); err != nil {
		t.Skipf("%v: make build makes it", err)
	}
	list := aboutRun
	if !*allInGVisor {
		list = list[:len(list)/2]
	}
	who := player{gvisor: true}
	for _, name := range list {
		who.files = append(who.files, "testdata/script/"+name+".txtar")
	}
	play(t, hub, who)
}
