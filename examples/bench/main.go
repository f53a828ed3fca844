// Bench compares whole builds by Cairn with those of BuildKit and Buildah, all
// pushing to one registry on this machine, and writes what it measured as a
// table.
//
// BuildKit is built from its Go module; Buildah is Debian's. Each workload is run
// by all in turn, after one round that does not count, and the median of each is
// kept. Before a timed run the workload's layer gets new content, as a peer skips
// what it has pushed before. A proxy in front of the registry counts requests and
// the bytes of blobs.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.cairn, "cairn", "bin/cairn", "the `program` to measure")
	flag.StringVar(&o.out, "out", "", "write the table to `FILE` rather than to standard output")
	flag.IntVar(&o.runs, "runs", 5, "how many `times` each workload is measured")
	flag.Var(&o.only, "only", "measure only these `workloads`, as in steps,warm (default all)")
	flag.Var(&o.peers, "peers", "beside these `peers`, as in buildkit (default buildkit,buildah)")
	list := flag.Bool("list", false, "list the workloads and do nothing")
	flag.Parse()
	if *list {
		for _, w := range workloads() {
			fmt.Printf("%-10s %s\n", w.name, w.what)
		}
		return
	}
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
	only  names
	peers names
}

// names is a list with commas.
type names []string

func (n *names) String() string { return strings.Join(*n, ",") }

func (n *names) Set(s string) error {
	*n = strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
	return nil
}

// want tells whether a name was asked for: all are by default.
func (n names) want(name string) bool { return len(n) == 0 || slices.Contains(n, name) }

func run(ctx context.Context, o options) (err error) {
	if o.runs < 1 {
		return fmt.Errorf("-runs %d: want 1 or more", o.runs)
	}
	if o.cairn, err = filepath.Abs(o.cairn); err != nil {
		return err
	}
	chosen := slices.DeleteFunc(workloads(), func(w workload) bool { return !o.only.want(w.name) })
	if len(chosen) == 0 {
		return fmt.Errorf("no workload is called %s: -list shows them", &o.only)
	}
	lab, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer lab.close()
	var results []result
	for _, w := range chosen {
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
	text := report(lab, results, start, o.runs)
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
	traffic
}

// result is what a workload cost each peer.
type result struct {
	workload
	samples map[string][]sample
	size    map[string]int64  // of the layers of the image that was pushed
	failed  map[string]string // why a peer could not do it
	bare    time.Duration     // what the bare work takes; zero if it can't be told
}

func (r result) wall(peer string) time.Duration {
	return median(r.samples[peer], func(s sample) time.Duration { return s.wall })
}

func (r result) peak(peer string) int64 {
	var most int64
	for _, s := range r.samples[peer] {
		most = max(most, s.peak)
	}
	return most
}

func (r result) traffic(peer string) traffic {
	return traffic{
		requests: median(r.samples[peer], func(s sample) int64 { return s.requests }),
		down:     median(r.samples[peer], func(s sample) int64 { return s.down }),
		up:       median(r.samples[peer], func(s sample) int64 { return s.up }),
	}
}

func median[T ~int64](samples []sample, of func(sample) T) T {
	var all []T
	for _, s := range samples {
		all = append(all, of(s))
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}
