package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	buildkitModule  = "github.com/moby/buildkit"
	buildkitVersion = "v0.34.2"
)

// buildkit is a daemon that runs as long as the lab.
type buildkit struct {
	*lab
	ctl    string
	addr   string
	daemon *os.Process
}

func (*buildkit) name() string    { return "BuildKit" }
func (*buildkit) tag() string     { return "buildkit" }
func (*buildkit) version() string { return buildkitVersion }

func (b *buildkit) args(j job, more ...string) []string {
	return append([]string{"--addr", b.addr, "build", "--progress", "plain", "--frontend", "dockerfile.v0",
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
	proc := fmt.Sprintf("/proc/%d/", b.daemon.Pid)
	if err := os.WriteFile(proc+"clear_refs", []byte("5"), 0); err != nil { // the peak so far is forgotten
		return sample{}, err
	}
	s, err := timed(exec.CommandContext(ctx, b.ctl, b.args(j, args...)...))
	s.peak += highWater(proc)
	return s, err
}

func (b *buildkit) carry(ctx context.Context, j job) error {
	to := "type=registry,mode=max,registry.insecure=true,ref=" + b.cacheOf(b, j)
	_, err := output(ctx, "", b.ctl, b.args(j, "--export-cache", to)...)
	return err
}

func (b *buildkit) empty(ctx context.Context) error {
	_, err := output(ctx, "", b.ctl, "--addr", b.addr, "prune", "--all")
	return err
}

func (l *lab) startBuildKit(ctx context.Context) (*buildkit, error) {
	bin, err := compileBuildKit(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(l.dir, "buildkit")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &buildkit{lab: l, ctl: filepath.Join(bin, "buildctl"), addr: "unix://" + filepath.Join(dir, "sock")}
	config := filepath.Join(dir, "buildkitd.toml")
	text := fmt.Sprintf("[registry.\"docker.io\"]\nmirrors = [%q]\n[registry.%q]\nhttp = true\n[worker.containerd]\nenabled = false\n", l.registry, l.registry)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(bin, "buildkitd"), "--config", config, "--root", filepath.Join(dir, "root"), "--addr", b.addr,
		"--oci-worker-snapshotter", "overlayfs", "--oci-worker-net", "host", "--allow-insecure-entitlement", "network.host")
	b.daemon, err = l.start(cmd, func() bool { return exec.Command(b.ctl, "--addr", b.addr, "debug", "workers").Run() == nil })
	return b, err
}

// compileBuildKit builds the daemon and its client from their module, once. They
// can't be installed by version, as their go.mod has replace lines: a module of
// ours that imports them can build them.
func compileBuildKit(ctx context.Context) (bin string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "cairn-bench", "buildkit-"+buildkitVersion)
	if _, err := os.Stat(filepath.Join(dir, "buildkitd")); err == nil {
		return dir, nil
	}
	temp, err := os.MkdirTemp("", "cairn-bench-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	source := fmt.Sprintf("//go:build tools\n\npackage peers\n\nimport (\n\t_ %q\n\t_ %q\n)\n", buildkitModule+"/cmd/buildkitd", buildkitModule+"/cmd/buildctl")
	if err := os.WriteFile(filepath.Join(temp, "peers.go"), []byte(source), 0o644); err != nil {
		return "", err
	}
	fmt.Fprintln(os.Stderr, "compiling BuildKit", buildkitVersion)
	for _, args := range [][]string{
		{"mod", "init", "example.org/peers"},
		{"get", "-tags", "tools", buildkitModule + "/cmd/buildkitd@" + buildkitVersion, buildkitModule + "/cmd/buildctl@" + buildkitVersion},
		{"build", "-tags", "tools", "-mod=mod", "-o", dir + "/", buildkitModule + "/cmd/buildctl", buildkitModule + "/cmd/buildkitd"},
	} {
		if _, err := output(ctx, temp, "go", args...); err != nil {
			return "", err
		}
	}
	return dir, nil
}
