package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

// report writes the table that is checked in.
func report(results []result, start time.Duration, runs int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Cairn beside BuildKit %s\n\n", buildkitVersion)
	fmt.Fprintf(&b, "Written by `make bench-peers` on %s, on a machine with %d processors (%s), Linux %s, %s.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), firstLine("/proc/cpuinfo", "model name"), firstLine("/proc/sys/kernel/osrelease", ""), runtime.Version())
	fmt.Fprintf(&b, "Both push to the same docker-registry on this machine. Times are of the whole command,\nmedians of %d runs that take turns, after one that does not count. Memory is the most\nthat was resident: of Cairn's largest process; of BuildKit's client and daemon, added.\n\n", runs)
	b.WriteString("| workload | Cairn | BuildKit | ratio | goal | Cairn's memory | BuildKit's memory |\n|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		ours, theirs := r.wall("Cairn"), r.wall("BuildKit")
		fmt.Fprintf(&b, "| %s: %s | %.0f ms | %.0f ms | %.2f | %.2f | %.0f MB | %.0f MB |\n",
			r.name, r.what, ms(ours), ms(theirs), float64(ours)/float64(theirs), r.target, float64(r.peak("Cairn"))/1e6, float64(r.peak("BuildKit"))/1e6)
	}
	fmt.Fprintf(&b, "\n`cairn version` takes %.1f ms.\n\n## Every run\n\n", ms(start))
	for _, r := range results {
		for _, peer := range []string{"Cairn", "BuildKit"} {
			fmt.Fprintf(&b, "- %s, %s:", r.name, peer)
			for _, s := range r.samples[peer] {
				fmt.Fprintf(&b, " %.0f ms", ms(s.wall))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}
