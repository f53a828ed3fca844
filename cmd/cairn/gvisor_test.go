package main

import (
	"flag"
	"os"
	"testing"
)

var allInGVisor = flag.Bool("gvisor", false, "run all scripts in isolation mode gvisor, rather than those about RUN")

// aboutRun has the scripts about commands of steps: their results, mounts, users,
// network, limits, signals and time limits. Of these hostile_run and mount_secret are not
// there: in mode gvisor a step can write to a program that runs, and set the time of a file
// on a read-only mount. TestHostile of cmd/cairn-gvisor has its own list.
var aboutRun = []string{
	"bad_run", "interrupt", "killed", "mount_bind", "mount_cache", "mount_ssh", "network",
	"run", "run_signals", "step_timeout", "times", "user",
}

// playInGVisor runs scripts as root, in isolation mode gvisor.
func playInGVisor(t *testing.T, hub string) {
	if _, err := os.Stat(gvisorProgram()); err != nil {
		t.Skipf("%v: make build makes it", err)
	}
	who := player{gvisor: true}
	if !*allInGVisor {
		for _, name := range aboutRun {
			who.files = append(who.files, "testdata/script/"+name+".txtar")
		}
	}
	play(t, hub, who)
}
