package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// result has the samples of a workload by mode.
type result struct {
	workload
	samples map[string][]sample
	failed  map[string]error // of modes in which the workload fails
}

// measure runs a workload in all modes in turn.
func (l *lab) measure(ctx context.Context, w workload, runs int) (result, error) {
	r := result{w, map[string][]sample{}, map[string]error{}}
	for i := range runs + 1 {
		for _, m := range l.modes {
			if r.failed[m.name] != nil {
				continue
			}
			s, err := l.sample(ctx, m, w)
			if ctx.Err() != nil {
				return r, context.Cause(ctx)
			}
			if err != nil && m.name == native {
				return r, err
			}
			r.failed[m.name] = err
			if i > 0 && err == nil { // the first is a warm-up
				r.samples[m.name] = append(r.samples[m.name], s)
			}
		}
	}
	return r, nil
}

func (r result) cpu(mode string) time.Duration {
	return median(r.samples[mode], func(s sample) time.Duration { return s.cpu })
}

func (r result) wall(mode string) time.Duration {
	return median(r.samples[mode], func(s sample) time.Duration { return s.wall })
}

func median(samples []sample, of func(sample) time.Duration) time.Duration {
	var all []time.Duration
	for _, s := range samples {
		all = append(all, of(s))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// report returns the report that is checked in as RESULTS.md.
func (l *lab) report(results []result, runs int) string {
	var b strings.Builder
	b.WriteString("# Steps in pods\n\n")
	fmt.Fprintf(&b, "Written by `make bench-pods` on %s, on a machine with %d processors, Linux %s, %s.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), kernel(), runtime.Version())
	fmt.Fprintf(&b, "Each build has one RUN, on Debian with a Go toolchain, and is measured as a whole, in a new pod with a warm store; native is the\n"+
		"command alone in a pod whose root file system is the image. Medians of %d runs that take turns, after one that does not count:\n"+
		"CPU seconds of all processes, of the machine's too that start the pod, and wall seconds. In brackets, the ratio to native.\n"+
		"The goal is for the CPU time in mode gvisor.\n\n", runs)
	b.WriteString("| mode | pod |\n|---|---|\n")
	for _, m := range l.modes {
		fmt.Fprintf(&b, "| %s | %s |\n", m.name, m.pod.Profile)
	}
	for _, missing := range l.missing {
		fmt.Fprintf(&b, "\nNot measured: %s\n", missing)
	}
	for _, r := range results {
		for _, m := range l.modes {
			if err := r.failed[m.name]; err != nil {
				fmt.Fprintf(&b, "\n%s fails in mode %v\n", r.name, err)
			}
		}
	}
	l.goals(&b, results)
	l.table(&b, "CPU time", results, result.cpu)
	l.table(&b, "Wall time", results, result.wall)
	return b.String()
}

func (l *lab) table(b *strings.Builder, title string, results []result, of func(result, string) time.Duration) {
	fmt.Fprintf(b, "\n## %s\n\n| workload |", title)
	for _, m := range l.modes {
		fmt.Fprintf(b, " %s |", m.name)
	}
	b.WriteString(" goal |\n|---|" + strings.Repeat("---|", len(l.modes)+1) + "\n")
	for _, r := range results {
		fmt.Fprintf(b, "| %s: %s |", r.name, r.what)
		for _, m := range l.modes {
			if len(r.samples[m.name]) == 0 || r.failed[m.name] != nil {
				b.WriteString(" fails |")
				continue
			}
			fmt.Fprintf(b, " %.2f", of(r, m.name).Seconds())
			if m.name != native {
				fmt.Fprintf(b, " (%.1f)", of(r, m.name).Seconds()/of(r, native).Seconds())
			}
			b.WriteString(" |")
		}
		goal := "-"
		if r.goal > 0 {
			goal = fmt.Sprint(r.goal)
		}
		fmt.Fprintf(b, " %s |\n", goal)
	}
}

// goals writes the figures of mode gvisor that are no ratios, and their goals.
func (l *lab) goals(b *strings.Builder, results []result) {
	by := map[string]result{}
	for _, r := range results {
		by[r.name] = r
	}
	start, three, eleven := by[startWorkload], by[threeWorkload], by[elevenWorkload]
	has := func(mode string, all ...result) bool {
		return !slices.ContainsFunc(all, func(r result) bool { return len(r.samples[mode]) == 0 })
	}
	b.WriteString("\n## Other goals\n\nWall time of the build alone, without the start of the pod.\n\n| measure | mode | figure | goal |\n|---|---|---|---|\n")
	for _, m := range l.modes {
		if m.name == native || !has(native, start) {
			continue
		}
		if has(m.name, three) {
			goal := map[string]string{"gvisor": "0.6 s", "chroot": "1 s"}[m.name]
			fmt.Fprintf(b, "| three RUNs | %s | %.2f s | %s |\n", m.name, (three.wall(m.name) - start.wall(native)).Seconds(), cmp.Or(goal, "-"))
		}
		if has(m.name, three, eleven) {
			goal := map[string]string{"gvisor": "60 ms"}[m.name]
			each := (eleven.wall(m.name) - three.wall(m.name)) / time.Duration(eleven.steps-three.steps)
			fmt.Fprintf(b, "| a RUN after the first | %s | %d ms | %s |\n", m.name, each.Milliseconds(), cmp.Or(goal, "-"))
		}
	}
	if l.memory > 0 {
		fmt.Fprintf(b, "| memory of `cairn-gvisor` while a RUN sleeps, the pages of the program included | gvisor | %d MiB | 64 MiB |\n", l.memory>>20)
	}
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	return cmp.Or(strings.TrimSpace(string(text)), fmt.Sprint(err))
}

var address = regexp.MustCompile(`127\.0\.0\.1:[1-9]\d*`)

// readAddress returns the address in a server's output, the rest of which it discards.
func readAddress(r io.Reader) (string, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if found := address.FindString(lines.Text()); found != "" {
			go func() { _, _ = io.Copy(io.Discard, r) }()
			return found, nil
		}
	}
	return "", errors.Join(errors.New("the registry ended before it listened"), lines.Err())
}
