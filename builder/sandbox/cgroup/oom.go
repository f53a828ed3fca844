package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
)

// Watch knows how many processes the kernel had killed for lack of memory when a command
// began, so that it can find out whether the command was hit.
type Watch struct {
	machine int64 // on the whole machine; -1 if that is not known
	groups  []watched
}

// watched is a cgroup that this process is in, or one above.
type watched struct {
	dir           string
	unified       bool
	killed, short int64
}

// NewWatch begins to watch the cgroups of this process.
func NewWatch() *Watch { return thisKernel(Caller{}).watch() }

func (k *kernel) watch() *Watch {
	w := &Watch{machine: k.killedOnMachine()}
	all, _ := k.hierarchies() // without them the machine's number remains
	h := find(all, "memory")
	if h == nil {
		return w
	}
	for dir := h.own; ; dir = filepath.Dir(dir) {
		g := watched{dir: dir, unified: h.unified}
		g.killed, g.short = g.counts()
		w.groups = append(w.groups, g)
		if dir == h.mount || len(dir) <= len(h.mount) {
			return w
		}
	}
}

// killedOnMachine returns -1 if the number is not known.
func (k *kernel) killedOnMachine() int64 {
	file := filepath.Dir(k.proc) + "/vmstat"
	if text, err := os.ReadFile(file); err != nil || !strings.Contains("\n"+string(text), "\noom_kill ") {
		return -1
	}
	return count(file, "oom_kill")
}

// counts returns the number of processes that were killed for lack of memory in the
// cgroup, and how often it was out of memory itself.
func (g watched) counts() (killed, short int64) {
	if g.unified {
		return count(g.dir+"/memory.events", "oom_kill"), count(g.dir+"/memory.events", "oom")
	}
	return count(g.dir+"/memory.oom_control", "oom_kill"), count(g.dir+"/memory.failcnt", "")
}

// limit returns the memory limit of the cgroup for a message, "" for none.
func (g watched) limit() string {
	file := g.dir + "/memory.limit_in_bytes"
	if g.unified {
		file = g.dir + "/memory.max"
	}
	const unlimited = 1 << 60 // version 1 has a number for that
	if n := count(file, ""); n > 0 && n < unlimited {
		return " (" + units.BytesSize(float64(n)) + ")"
	}
	return ""
}

// killedStatus is the exit status of a command that was killed, or of a shell whose last command
// was killed.
const killedStatus = 128 + 9

const lessMemory = "raise it (in a pod: resources.limits.memory), or do less at a time, as with make -j2"

// Reason returns a message if a lack of memory is the reason, or the likely one, for the
// exit status of the watched command, "" if it is not.
func (w *Watch) Reason(status int) string { return w.reason(thisKernel(Caller{}), status) }

func (w *Watch) reason(k *kernel, status int) string {
	now := k.killedOnMachine()
	if status == 0 || w.machine >= 0 && now == w.machine {
		return ""
	}
	for i, g := range w.groups {
		killed, short := g.counts()
		// Groups above have other processes too.
		if killed == g.killed || i > 0 && status != killedStatus {
			continue
		}
		for _, above := range w.groups[i:] {
			if _, now := above.counts(); now > above.short {
				return fmt.Sprintf("the kernel killed a process because the memory limit of the container or pod that cairn runs in%s was reached: %s", above.limit(), lessMemory)
			}
		}
		if short == g.short {
			return "the kernel killed a process because the memory of the machine, or of the pod that cairn runs in, was used up: " +
				"give it more (in a pod: resources.limits.memory), or do less at a time, as with make -j2"
		}
	}
	switch {
	case status != killedStatus:
		return ""
	case w.machine >= 0:
		return "the kernel killed a process of this machine for lack of memory, likely one of this command: if the pod or container that cairn runs in has a memory limit, " + lessMemory
	}
	return "status 137 means that a process was killed, likely because the memory limit of the pod, container or machine that cairn runs in was reached: " + lessMemory
}
