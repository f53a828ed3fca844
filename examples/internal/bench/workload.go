package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// workload is a build to measure.
type workload struct {
	name    string
	what    string
	target  float64 // highest acceptable ratio to BuildKit's time
	base    string  // base image to push to the registry first
	noCache bool
	empty   bool     // each run starts with an empty store
	carried bool     // ... and with a cache in the registry
	skip    []string // peers that are too slow for it
	runs    int      // number of runs, if fewer than requested; 0 means as requested

	prepare func(ctx context.Context, l *lab, dir string) error                  // creates the context, once
	fresh   func(dir string) error                                               // before each run
	bare    func(ctx context.Context, l *lab, dir string) (time.Duration, error) // the same work without a builder
}

func workloads() []workload {
	return []workload{
		{name: "steps", what: "50 x `RUN echo N > /fN` on busybox, no cache, push", target: 0.1, base: "busybox", noCache: true,
			prepare: steps(50), bare: bareSteps(50)},
		{name: "steps500", what: "500 of the same", target: 0.1, base: "busybox", noCache: true, runs: 1, skip: []string{"Buildah"},
			prepare: steps(500), bare: bareSteps(500)},
		{name: "context", what: "COPY of the Go toolchain, one file of it new, no cache, push", target: 0.2, base: "busybox", noCache: true,
			prepare: goTree, fresh: change("go/STAMP"), bare: barePack("go")},
		{name: "bigfile", what: "COPY of the same as one file, no cache, push", target: 0.2, base: "busybox", noCache: true,
			prepare: bigFile, fresh: restamp("data"), bare: barePack("data")},
		{name: "copyrun", what: "`RUN cp -a /usr /usr2` on Debian, no cache, push", target: 0.35, base: "debian", noCache: true,
			prepare: copyRun, bare: bareCopyRun},
		{name: "wide", what: "8 stages that hash 100 MB each, one COPY --from each, no cache, push", target: 0.6, base: "busybox", noCache: true,
			prepare: wide, bare: bareWide},
		{name: "warm", what: "100 instructions on Debian, nothing changed, push", target: 0.15, base: "debian",
			prepare: warm, bare: bareRequests(2)},
		{name: "edit", what: "the same, one file of the context changed, push", target: 0.2, base: "debian",
			prepare: warm, fresh: change("app/f7"), bare: barePack("app")},
		{name: "touch", what: "the same, all files touched, no content changed, push", target: 0.2, base: "debian",
			prepare: warm, fresh: touch("app"), bare: bareRequests(2)},
		{name: "coldcache", what: "the same, empty store, all of it in a cache in the registry, push", target: 0.3, base: "debian",
			empty: true, carried: true, prepare: warm, bare: bareRequests(4)},
		{name: "metadata", what: "ENV, LABEL and CMD on a base of 10 layers, empty store, push", target: 0.5, base: "base500",
			empty: true, prepare: onBase500("ENV A=1\nLABEL b=2\nCMD [\"true\"]\n"), bare: bareRequests(4)},
		{name: "bigbase", what: "RUN true on that base, empty store, push", target: 0.6, base: "base500",
			empty: true, prepare: onBase500("RUN true\n"), bare: bareUnpack},
		{name: "layer4g", what: "COPY of one file of 4 GiB, for its memory", base: "busybox", noCache: true, runs: 1, skip: []string{"BuildKit", "Buildah"},
			prepare: hugeFile, fresh: restamp("data"), bare: barePack("data")},
		{name: "files300k", what: "COPY of 300,000 files, for its memory", base: "busybox", noCache: true, runs: 1, skip: []string{"Buildah"},
			prepare: manyFiles, fresh: change("files/0/0"), bare: barePack("files")},
	}
}

// slow is a peer that is so slow that it is timed only once.
const slow = "Buildah"

// measure runs a workload by each peer in turn. The first round fills caches and does
// not count. A peer that fails is skipped from then on.
func (l *lab) measure(ctx context.Context, w workload, runs int) (result, error) {
	dir := filepath.Join(l.dir, w.name)
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Mkdir(dir, 0o755), l.need(ctx, w.base)); err != nil {
		return result{}, err
	}
	if err := w.prepare(ctx, l, dir); err != nil {
		return result{}, err
	}
	r := result{workload: w, samples: map[string][]sample{}, size: map[string]int64{}, failed: map[string]string{}}
	peers := slices.DeleteFunc(slices.Clone(l.peers), func(p peer) bool { return slices.Contains(w.skip, p.name()) })
	if w.runs > 0 {
		runs = min(runs, w.runs)
	}
	for i := range runs + 1 {
		for k := range peers {
			p := peers[(i+k)%len(peers)]
			if r.failed[p.name()] != "" || i > 1 && p.name() == slow {
				continue
			}
			s, err := l.once(ctx, p, job{w, dir, i})
			if err != nil && p != l.peers[0] && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "%s: %s fails: %v\n", w.name, p.name(), err)
				r.failed[p.name()] = lastLine(err)
				continue
			}
			if err != nil {
				return r, fmt.Errorf("%s: %w", p.name(), err)
			}
			fmt.Fprintf(os.Stderr, "%-9s %-9s %9.1f ms %6.1f MB %5d requests %8.2f MB down %8.2f MB up\n",
				w.name, p.name(), ms(s.wall), mb(s.peak), s.requests, mb(s.down), mb(s.up))
			if i > 0 {
				r.samples[p.name()] = append(r.samples[p.name()], s)
			}
			if r.size[p.name()], err = l.imageSize(ctx, job{w, dir, i}.image(l, p)); err != nil {
				return r, err
			}
		}
	}
	var err error
	r.bare, err = w.bare(ctx, l, dir)
	return r, err
}

func lastLine(err error) string {
	text := strings.TrimSpace(err.Error())
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// job is one run of a workload.
type job struct {
	workload
	dir string
	run int
}

// image returns the reference that the peer pushes to. Runs with an empty store push to
// a new repository.
func (j job) image(l *lab, p peer) string {
	repo := j.name
	if j.empty {
		repo += fmt.Sprint("-", p.tag(), j.run)
	}
	return l.registry + "/bench/" + repo + ":" + p.tag()
}

// once prepares and makes one timed run.
func (l *lab) once(ctx context.Context, p peer, j job) (sample, error) {
	if j.carried && j.run == 0 {
		if err := p.carry(ctx, j); err != nil {
			return sample{}, fmt.Errorf("filling the cache: %w", err)
		}
	}
	if j.empty {
		if err := p.empty(ctx); err != nil {
			return sample{}, fmt.Errorf("emptying the store: %w", err)
		}
	}
	if j.fresh != nil {
		if err := j.fresh(j.dir); err != nil {
			return sample{}, err
		}
	}
	l.proxy.take()
	s, err := p.build(ctx, j)
	s.traffic = l.proxy.take()
	return s, err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func mb(n int64) float64         { return float64(n) / 1e6 }
