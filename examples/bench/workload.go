package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// workload is a build that is measured.
type workload struct {
	name    string
	what    string
	target  float64 // most of BuildKit's time
	noCache bool
	prepare func(ctx context.Context, l *lab, dir string) error // makes the context, once
	fresh   func(dir string) error                              // before each run
}

func workloads() []workload {
	return []workload{
		{name: "steps", what: "50 x `RUN echo N > /fN` on busybox, no cache, push", target: 0.15, noCache: true, prepare: steps},
		{name: "warm", what: "the same again, nothing changed, push", target: 0.3, prepare: steps},
		{name: "context", what: "COPY of the Go toolchain, one file of it new, push", target: 0.3, prepare: goTree, fresh: stamp},
	}
}

func steps(_ context.Context, _ *lab, dir string) error {
	text := "FROM busybox\n"
	for i := range 50 {
		text += fmt.Sprintf("RUN echo %d > /f%d\n", i+1, i+1)
	}
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644)
}

func goTree(ctx context.Context, l *lab, dir string) error {
	goroot, err := output(ctx, dir, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM busybox\nCOPY go /go\n"), 0o644); err != nil {
		return err
	}
	_, err = output(ctx, dir, "cp", "-a", strings.TrimSpace(goroot), filepath.Join(dir, "go"))
	return err
}

// stamp gives the layer new content, so that nobody has it already.
func stamp(dir string) error {
	return os.WriteFile(filepath.Join(dir, "go", "STAMP"), []byte(rand.Text()), 0o644)
}

// measure runs a workload by each peer in turn. The first round fills caches
// and does not count.
func (l *lab) measure(ctx context.Context, w workload, runs int) (result, error) {
	dir := filepath.Join(l.dir, w.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return result{}, err
	}
	if err := w.prepare(ctx, l, dir); err != nil {
		return result{}, err
	}
	r := result{workload: w, samples: map[string][]sample{}}
	for i := range runs + 1 {
		for _, peer := range []peer{l.cairnPeer(), l.buildkit} {
			if w.fresh != nil {
				if err := w.fresh(dir); err != nil {
					return r, err
				}
			}
			s, err := peer.build(ctx, dir, w)
			if err != nil {
				return r, fmt.Errorf("%s: %w", peer.name(), err)
			}
			fmt.Fprintf(os.Stderr, "%-8s %-9s %8.1f ms %6.1f MB\n", w.name, peer.name(), ms(s.wall), float64(s.peak)/1e6)
			if i > 0 {
				r.samples[peer.name()] = append(r.samples[peer.name()], s)
			}
		}
	}
	return r, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
