// Bench compares whole builds by Cairn and by BuildKit, both pushing to one
// registry on this machine, and writes what it measured as a table.
//
// BuildKit is built from its Go module. Each workload is run by both in turn,
// after one round that does not count, and the median of each is kept.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.cairn, "cairn", "bin/cairn", "the `program` to measure")
	flag.StringVar(&o.out, "out", "", "write the table to `FILE` rather than to standard output")
	flag.IntVar(&o.runs, "runs", 5, "how many `times` each workload is measured")
	flag.StringVar(&o.only, "only", "", "measure only the workload of this `NAME`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	cairn string
	out   string
	runs  int
	only  string
}

func run(ctx context.Context, o options) (err error) {
	if o.cairn, err = filepath.Abs(o.cairn); err != nil {
		return err
	}
	lab, err := newLab(ctx, o.cairn)
	if err != nil {
		return err
	}
	defer lab.close()
	var results []result
	for _, w := range workloads() {
		if o.only != "" && o.only != w.name {
			continue
		}
		r, err := lab.measure(ctx, w, o.runs)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		results = append(results, r)
	}
	start, err := lab.startTime(ctx)
	if err != nil {
		return err
	}
	text := report(results, start, o.runs)
	if o.out == "" {
		_, err = os.Stdout.WriteString(text)
		return err
	}
	return os.WriteFile(o.out, []byte(text), 0o644)
}

// sample is one run of one peer.
type sample struct {
	wall time.Duration
	peak int64 // resident bytes, of all of the peer's processes together
}

// result is what a workload cost each peer.
type result struct {
	workload
	samples map[string][]sample
}

func (r result) wall(peer string) time.Duration {
	var all []time.Duration
	for _, s := range r.samples[peer] {
		all = append(all, s.wall)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (r result) peak(peer string) int64 {
	var most int64
	for _, s := range r.samples[peer] {
		most = max(most, s.peak)
	}
	return most
}
