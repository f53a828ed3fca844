package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Prefixes of the names of cgroups. The time of creation and a random number follow.
const (
	groupPrefix = "cairn-step-" // group of a command
	leafPrefix  = "cairn-self-" // cgroup that the program has moved itself to
)

// Group is the cgroup of one command, in each needed hierarchy. The methods of a nil
// Group do nothing.
type Group struct {
	maker *Maker
	held  []held // empty after it was removed
}

// held is a locked cgroup.
type held struct {
	dir  string
	lock *os.File
	at   *place
}

// Files returns the files to which a process writes "0" to enter the group.
func (g *Group) Files() (list []string) {
	if g == nil {
		return nil
	}
	for _, h := range g.held {
		list = append(list, h.dir+"/cgroup.procs")
	}
	return list
}

// Reached returns a message about the limit that the group has reached, "" for none.
func (g *Group) Reached() string {
	if g == nil {
		return ""
	}
	var hits Hits
	for _, h := range g.held {
		if slices.Contains(h.at.needs, "memory") {
			hits.Memory, hits.Outside = h.killed()
		}
		if slices.Contains(h.at.needs, "pids") {
			hits.PIDs = count(h.dir+"/pids.events", "max") > 0
		}
	}
	return g.maker.limits.Reached(hits)
}

// killed reports whether the kernel has killed a process of the group for lack of
// memory: because of the group's limit, or of one outside.
func (h held) killed() (limit, outside bool) {
	killed, full := count(h.dir+"/memory.oom_control", "oom_kill"), count(h.dir+"/memory.failcnt", "")
	if h.at.unified {
		killed, full = count(h.dir+"/memory.events", "oom_kill"), count(h.dir+"/memory.events", "oom")
	}
	return killed > 0 && full > 0, killed > 0 && full == 0
}

// count reads a number from a file of lines "name number", or with an empty name from a
// file that has only a number. It returns 0 if there is none.
func count(file, name string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if name == "" && len(f) == 1 || len(f) == 2 && f[0] == name {
			n, _ := strconv.ParseInt(f[len(f)-1], 10, 64)
			return n
		}
	}
	return 0
}

// Remove kills the processes of the group and removes it. If that fails, the Maker tries
// again when it is closed.
func (g *Group) Remove() error {
	if g == nil {
		return nil
	}
	err := g.remove()
	if err != nil {
		g.maker.mu.Lock()
		defer g.maker.mu.Unlock()
		g.maker.left = append(g.maker.left, g)
	}
	return err
}

func (g *Group) remove() (err error) {
	var left []held
	for _, h := range g.held {
		if e := g.maker.kernel.killAndRemove(h.dir); e != nil {
			err = errors.Join(err, e)
			left = append(left, h)
			continue
		}
		h.lock.Close()
	}
	g.held = left
	return err
}

// patience is the time that killed processes may take to exit.
const patience = 5 * time.Second

// killAndRemove kills the processes of a cgroup and removes it.
func (k *kernel) killAndRemove(dir string) (err error) {
	wait := time.Millisecond
	for begun := time.Now(); ; wait = min(2*wait, 100*time.Millisecond) {
		if err = k.remove(dir); !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			break
		}
		if time.Since(begun) > patience {
			break
		}
		k.kill(dir)
		time.Sleep(wait)
	}
	if err != nil {
		return fmt.Errorf("remove the cgroup %s: %w", dir, err)
	}
	return nil
}

// kill kills the processes of a cgroup and of its descendants.
func (k *kernel) kill(dir string) {
	if k.write(dir+"/cgroup.kill", "1") == nil { // version 2 since Linux 5.14
		return
	}
	for _, pid := range k.processes(dir) {
		if pid > 0 {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	for _, name := range folders(dir) {
		k.kill(dir + "/" + name)
	}
}

// remove removes a cgroup without processes, and its descendants.
func (k *kernel) remove(dir string) error {
	err := k.rmdir(dir)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) {
		for _, name := range folders(dir) {
			if err := k.remove(dir + "/" + name); err != nil {
				return err
			}
		}
		err = k.rmdir(dir)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// folders returns the names of the child cgroups of a cgroup.
func folders(dir string) (names []string) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}
