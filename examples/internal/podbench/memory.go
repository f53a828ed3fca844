package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// measureMemory measures the memory of the program of mode gvisor, if that mode is there.
func (l *lab) measureMemory(ctx context.Context) error {
	i := slices.IndexFunc(l.modes, func(m mode) bool { return m.name == "gvisor" })
	if i < 0 {
		return nil
	}
	p, args, err := l.pod(l.modes[i], workload{name: "memory", command: "sleep 1", steps: 1})
	if err != nil {
		return err
	}
	c, remove, err := p.Command(ctx, args...)
	if err != nil {
		return err
	}
	defer remove()
	var log bytes.Buffer
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for tick := time.Tick(20 * time.Millisecond); ; {
		select {
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("memory: %w: %s", err, reason(log.String()))
			}
			return nil
		case <-tick:
			l.memory = max(l.memory, largest(filepath.Base(l.dir)))
		}
	}
}

var peak = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// largest returns the largest peak of memory of the processes called cairn-gvisor whose
// parent is the cairn of this laboratory. The children of these are processes of the step.
func largest(laboratory string) (bytes int64) {
	files, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, name := range files {
		text, _ := os.ReadFile(name)
		if !strings.HasPrefix(string(text), "Name:\tcairn-gvisor\n") {
			continue
		}
		mounts, _ := os.ReadFile(filepath.Dir(name) + "/mountinfo")
		parent := regexp.MustCompile(`(?m)^PPid:\t(\d+)$`).FindSubmatch(text)
		if parent == nil || !strings.Contains(string(mounts), laboratory) {
			continue
		}
		above, _ := os.ReadFile("/proc/" + string(parent[1]) + "/comm")
		if found := peak.FindSubmatch(text); found != nil && string(above) == "cairn\n" {
			kib, _ := strconv.ParseInt(string(found[1]), 10, 64)
			bytes = max(bytes, kib<<10)
		}
	}
	return bytes
}
