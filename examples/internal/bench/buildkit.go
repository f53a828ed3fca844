package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cairn-build/cairn/examples/internal/peers"
)

// buildkit is a daemon that runs as long as its lab.
type buildkit struct {
	*lab
	*peers.BuildKit
}

func (*buildkit) name() string    { return "BuildKit" }
func (*buildkit) tag() string     { return "buildkit" }
func (*buildkit) version() string { return peers.BuildKitVersion }

func (b *buildkit) args(j job, more ...string) []string {
	return append([]string{"build", "--progress", "plain", "--frontend", "dockerfile.v0",
		"--local", "context=" + j.dir, "--local", "dockerfile=" + j.dir}, more...)
}

func (b *buildkit) build(ctx context.Context, j job) (sample, error) {
	args := []string{"--output", "type=image,name=" + j.image(b.lab, b) + ",push=true,registry.insecure=true"}
	if j.noCache {
		args = append(args, "--no-cache")
	}
	if j.carried {
		args = append(args, "--import-cache", "type=registry,registry.insecure=true,ref="+b.cacheOf(b, j))
	}
	proc := fmt.Sprintf("/proc/%d/", b.PID())
	if err := os.WriteFile(proc+"clear_refs", []byte("5"), 0); err != nil { // reset the peak
		return sample{}, err
	}
	s, err := timed(b.Command(ctx, b.args(j, args...)...))
	s.peak += highWater(proc)
	return s, err
}

func (b *buildkit) carry(ctx context.Context, j job) error {
	to := "type=registry,mode=max,registry.insecure=true,ref=" + b.cacheOf(b, j)
	_, err := timed(b.Command(ctx, b.args(j, "--export-cache", to)...))
	return err
}

func (b *buildkit) empty(ctx context.Context) error {
	_, err := timed(b.Command(ctx, "prune", "--all"))
	return err
}

func (l *lab) startBuildKit(ctx context.Context) (*buildkit, error) {
	b, err := peers.StartBuildKit(ctx, filepath.Join(l.dir, "buildkit"), l.registry)
	if err != nil {
		return nil, err
	}
	l.stops = append(l.stops, b.Stop)
	return &buildkit{l, b}, nil
}
