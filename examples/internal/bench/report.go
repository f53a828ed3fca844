package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

func cores() int { return runtime.NumCPU() }

// report returns the report that is checked in as RESULTS.md.
func report(l *lab, results []result, start time.Duration, runs int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Cairn beside %s\n\n", l.others())
	fmt.Fprintf(&b, "Written by `make bench-peers` on %s, on a machine with %d processors (%s), Linux %s, %s.\n\n",
		time.Now().UTC().Format(time.DateOnly), cores(), firstLine("/proc/cpuinfo", "model name"), firstLine("/proc/sys/kernel/osrelease", ""), runtime.Version())
	fmt.Fprintf(&b, "All push to the same docker-registry on this machine. Times are of the whole command, medians of %d runs\n"+
		"that take turns, after one that does not count (Buildah's of one). The ratio is to BuildKit's time. Bare is the same work without\n"+
		"a builder: reading, hashing and compressing, or the commands and mounts alone, or the requests.\n\n", runs)
	l.times(&b, results)
	for _, r := range results {
		for _, p := range l.peers {
			if why := r.failed[p.name()]; why != "" {
				fmt.Fprintf(&b, "\n%s fails at %s: %s\n", p.name(), r.name, why)
			}
		}
	}
	fmt.Fprintf(&b, "\n`cairn version` takes %.1f ms.\n\n## Transfers and memory\n\n", ms(start))
	b.WriteString("Requests to the registry and bytes of blobs, of one run; the layers of the image that was pushed, compressed;\n" +
		"and the most memory that was resident, of all processes of a builder (of BuildKit's client and daemon), without\nthose of the steps.\n\n")
	l.costs(&b, results)
	b.WriteString("\n## Every run\n\n")
	for _, r := range results {
		for _, p := range l.peers {
			if len(r.samples[p.name()]) == 0 {
				continue
			}
			fmt.Fprintf(&b, "- %s, %s:", r.name, p.name())
			for _, s := range r.samples[p.name()] {
				fmt.Fprintf(&b, " %.0f ms", ms(s.wall))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// others returns the names of the peers other than Cairn.
func (l *lab) others() string {
	var list []string
	for _, p := range l.peers[1:] {
		if v := p.version(); strings.HasPrefix(strings.ToLower(v), p.tag()) {
			list = append(list, v)
		} else {
			list = append(list, p.name()+" "+v)
		}
	}
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, " and ")
}

func (l *lab) times(b *strings.Builder, results []result) {
	b.WriteString("| workload |")
	for _, p := range l.peers {
		fmt.Fprintf(b, " %s |", p.name())
	}
	b.WriteString(" ratio | goal | bare | Cairn / bare |\n|---|" + strings.Repeat("---|", len(l.peers)) + "---|---|---|---|\n")
	for _, r := range results {
		fmt.Fprintf(b, "| %s: %s |", r.name, r.what)
		for _, p := range l.peers {
			fmt.Fprintf(b, " %s |", cell("%.0f ms", ms(r.wall(p.name()))))
		}
		fmt.Fprintf(b, " %s | %s | %s | %s |\n", ratio("%.2f", r.wall("Cairn"), r.wall("BuildKit")), cell("%.2f", r.target),
			cell("%.0f ms", ms(r.bare)), ratio("%.1f", r.wall("Cairn"), r.bare))
	}
}

func (l *lab) costs(b *strings.Builder, results []result) {
	b.WriteString("| workload | builder | requests | down | up | image | to BuildKit's | memory |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		for _, p := range l.peers {
			n := p.name()
			if len(r.samples[n]) == 0 {
				continue
			}
			t := r.traffic(n)
			fmt.Fprintf(b, "| %s | %s | %d | %.2f MB | %.2f MB | %.2f MB | %s | %.0f MB |\n", r.name, n, t.requests,
				mb(t.down), mb(t.up), mb(r.size[n]), ratio("%.3f", r.size[n], r.size["BuildKit"]), mb(r.peak(n)))
		}
	}
}

// cell formats v, or returns "-" for a value that was not measured.
func cell(format string, v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

func ratio[T ~int64](format string, ours, theirs T) string {
	if theirs == 0 {
		return "-"
	}
	return fmt.Sprintf(format, float64(ours)/float64(theirs))
}
