package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// peer is a builder that is measured: it builds a context and pushes the image.
type peer interface {
	name() string
	build(ctx context.Context, dir string, w workload) (sample, error)
}

type cairn struct{ *lab }

func (l *lab) cairnPeer() peer { return cairn{l} }

func (cairn) name() string { return "Cairn" }

func (c cairn) build(ctx context.Context, dir string, w workload) (sample, error) {
	args := []string{"--root", c.root(), "build", "--progress", "plain", "--registry-mirror", c.registry,
		"-t", c.registry + "/bench/" + w.name + ":cairn", "--push"}
	if w.noCache {
		args = append(args, "--no-cache")
	}
	return timed(exec.CommandContext(ctx, c.cairn, append(args, dir)...))
}

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

func (*buildkit) name() string { return "BuildKit" }

func (b *buildkit) build(ctx context.Context, dir string, w workload) (sample, error) {
	args := []string{"--addr", b.addr, "build", "--progress", "plain", "--frontend", "dockerfile.v0",
		"--local", "context=" + dir, "--local", "dockerfile=" + dir,
		"--output", "type=image,name=" + b.registry + "/bench/" + w.name + ":buildkit,push=true,registry.insecure=true"}
	if w.noCache {
		args = append(args, "--no-cache")
	}
	proc := fmt.Sprintf("/proc/%d/", b.daemon.Pid)
	if err := os.WriteFile(proc+"clear_refs", []byte("5"), 0); err != nil { // the peak so far is forgotten
		return sample{}, err
	}
	s, err := timed(exec.CommandContext(ctx, b.ctl, args...))
	if err != nil {
		return s, err
	}
	kb, err := strconv.ParseInt(strings.TrimSuffix(firstLine(proc+"status", "VmHWM:"), " kB"), 10, 64)
	s.peak += kb << 10
	return s, err
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
