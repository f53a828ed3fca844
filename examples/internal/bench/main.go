// Bench compares whole builds by Cairn with builds by BuildKit and Buildah, all pushing
// to one registry on this machine, and writes the results as a table.
//
// BuildKit is compiled from its Go module; Buildah is Debian's. The peers run each
// workload in turn. The first round is a warm-up; the median of the others counts.
// Before each timed run the workload's layer gets new content, since peers skip content
// that they have pushed before. A proxy in front of the registry counts requests and
// blob bytes.
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
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.cairn, "cairn", "bin/cairn", "the `program` to measure")
	flag.StringVar(&o.out, "out", "", "write the table to `FILE` rather than to standard output")
	flag.IntVar(&o.runs, "runs", 5, "how many `times` each workload is measured")
	flag.Var(&o.only, "only", "measure only these `workloads`, as in steps,warm (default all)")
	flag.Var(&o.peers, "peers", "beside these `peers`, as in buildkit (default buildkit,buildah)")
	flag.BoolVar(&o.applications, "applications", false, "measure applications of several targets rather than single images")
	list := flag.Bool("list", false, "list the workloads and do nothing")
	flag.Parse()
	if *list {
		for _, w := range workloads() {
			fmt.Printf("%-10s %s\n", w.name, w.what)
		}
		for _, a := range applications() {
			fmt.Printf("%-10s %s (with -applications)\n", a.name, a.what)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
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

	applications bool
}

// names is a comma-separated list.
type names []string

func (n *names) String() string { return strings.Join(*n, ",") }

func (n *names) Set(s string) error {
	*n = strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
	return nil
}

// want reports whether name was selected. An empty list selects all.
func (n names) want(name string) bool { return len(n) == 0 || slices.Contains(n, name) }

func run(ctx context.Context, o options) (err error) {
	if o.runs < 1 {
		return fmt.Errorf("-runs %d: want 1 or more", o.runs)
	}
	if o.cairn, err = filepath.Abs(o.cairn); err != nil {
		return err
	}
	if o.applications {
		return runApplications(ctx, o)
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

func runApplications(ctx context.Context, o options) error {
	if !slices.ContainsFunc(applications(), func(a application) bool { return o.only.want(a.name) }) {
		return fmt.Errorf("no application is called %s: -list shows them", &o.only)
	}
	if len(o.peers) == 0 {
		o.peers = names{"buildkit"}
	}
	lab, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer lab.close()
	results, err := lab.measureApplications(ctx, o)
	if err != nil {
		return err
	}
	text := applicationReport(results, o.runs)
	if o.out == "" {
		_, err = os.Stdout.WriteString(text)
		return err
	}
	return os.WriteFile(o.out, []byte(text), 0o644)
}

// sample is one run of one peer.
type sample struct {
	wall time.Duration
	cpu  time.Duration
	peak int64 // resident bytes, of all of the peer's processes together
	traffic
}

// result holds the measurements of a workload for each peer.
type result struct {
	workload
	samples map[string][]sample
	size    map[string]int64  // of the pushed image's layers
	failed  map[string]string // reason why a peer failed
	bare    time.Duration     // time of the work without a builder; zero if unknown
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
