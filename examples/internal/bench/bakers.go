package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cairn-build/cairn/examples/internal/peers"
)

func peersVersion() string    { return peers.BuildxVersion }
func buildkitVersion() string { return peers.BuildKitVersion }

// bakers builds applications in several ways.
type bakers struct {
	*lab
	buildx string
	daemon *buildkit
}

// newBakers starts BuildKit and makes it the builder of buildx, unless it is not wanted.
func (l *lab) newBakers(ctx context.Context, o options) (*bakers, error) {
	b := &bakers{lab: l}
	if !o.peers.want("buildkit") {
		return b, nil
	}
	var err error
	if b.buildx, err = peers.Buildx(ctx); err != nil {
		return nil, err
	}
	for _, p := range l.peers {
		if daemon, ok := p.(*buildkit); ok {
			b.daemon = daemon
		}
	}
	cmd := exec.CommandContext(ctx, b.buildx, "create", "--name", "bench", "--driver", "remote", b.daemon.Address())
	cmd.Env = b.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return b, nil
}

func (b *bakers) environment(more ...string) []string {
	return slices.Concat(os.Environ(), []string{"BUILDX_CONFIG=" + filepath.Join(b.dir, "buildx"), "BUILDX_BUILDER=bench"}, more)
}

// once prepares and makes one timed run.
func (b *bakers) once(ctx context.Context, way string, a application, dir string, run int) (sample, error) {
	repo := b.registry + "/" + a.name
	tag := map[string]string{byBake: "bake", byBuildx: "buildx", byOne: "build"}[way]
	if a.cold {
		repo += fmt.Sprint("-", tag, run)
		if err := b.empty(ctx, way); err != nil {
			return sample{}, err
		}
	}
	if a.fresh != nil {
		if err := a.fresh(dir); err != nil {
			return sample{}, err
		}
	}
	env := b.environment("REPO="+repo, "TAG="+tag)
	b.proxy.take()
	s, err := b.build(ctx, way, a, dir, env)
	s.traffic = b.proxy.take()
	return s, err
}

// empty removes everything that a builder has stored.
func (b *bakers) empty(ctx context.Context, way string) error {
	if way == byBuildx {
		return b.daemon.empty(ctx)
	}
	return os.RemoveAll(b.root(way))
}

// root returns the directory of the store of a way, so that a warm build has its own.
func (b *bakers) root(way string) string {
	return filepath.Join(b.dir, "store-"+strings.ReplaceAll(way, " ", "-"))
}

func (b *bakers) build(ctx context.Context, way string, a application, dir string, env []string) (sample, error) {
	var cmd *exec.Cmd
	switch {
	case way == byOne:
		return b.oneByOne(ctx, dir, env)
	case way == byBuildx && a.plan:
		cmd = exec.CommandContext(ctx, b.buildx, "bake", "--print")
	case way == byBuildx:
		cmd = exec.CommandContext(ctx, b.buildx, "bake", "--push", "--progress", "plain", "--provenance=false")
	case a.plan:
		cmd = exec.CommandContext(ctx, b.cairn, "--root", b.root(way), "bake", "--registry-mirror", b.registry, "--print", "--graph")
	default:
		cmd = exec.CommandContext(ctx, b.cairn, "--root", b.root(way), "bake", "--registry-mirror", b.registry, "--push", "--progress", "plain")
	}
	cmd.Dir, cmd.Env = dir, env
	if way != byBuildx {
		return timed(cmd)
	}
	proc := fmt.Sprintf("/proc/%d/", b.daemon.PID())
	if err := os.WriteFile(proc+"clear_refs", []byte("5"), 0); err != nil { // reset the peak
		return sample{}, err
	}
	before, err := cpuTime(proc)
	if err != nil {
		return sample{}, err
	}
	s, err := timed(cmd)
	if err != nil {
		return s, err
	}
	after, err := cpuTime(proc)
	s.cpu += after - before
	if !a.plan {
		s.peak += highWater(proc)
	}
	return s, err
}

// oneByOne builds each target by a command of its own, and adds up the times.
func (b *bakers) oneByOne(ctx context.Context, dir string, env []string) (total sample, err error) {
	cmd := exec.CommandContext(ctx, b.cairn, "bake", "--print")
	cmd.Dir, cmd.Env = dir, env
	text, err := cmd.Output()
	if err != nil {
		return total, fmt.Errorf("%s: %w", cmd, err)
	}
	var plan struct {
		Target map[string]struct {
			Context string
			Args    map[string]string
			Tags    []string
		}
	}
	if err := json.Unmarshal(text, &plan); err != nil {
		return total, err
	}
	for _, t := range plan.Target {
		args := []string{"--root", b.root(byOne), "build", "--registry-mirror", b.registry, "--push", "--progress", "plain", "-t", t.Tags[0]}
		for k, v := range t.Args {
			args = append(args, "--build-arg", k+"="+v)
		}
		cmd := exec.CommandContext(ctx, b.cairn, append(args, t.Context)...)
		cmd.Dir, cmd.Env = dir, env
		s, err := timed(cmd)
		if err != nil {
			return total, err
		}
		total.wall, total.cpu, total.peak = total.wall+s.wall, total.cpu+s.cpu, max(total.peak, s.peak)
	}
	return total, nil
}

// cpuTime returns the processor time of a process and its children that have ended.
func cpuTime(proc string) (time.Duration, error) {
	text, err := os.ReadFile(proc + "stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100, nil
}
