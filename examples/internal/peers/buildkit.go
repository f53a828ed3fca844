package peers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	buildkitModule = "github.com/moby/buildkit"

	// BuildKitVersion is the release to compile.
	BuildKitVersion = "v0.34.2"
)

// BuildKit is a BuildKit daemon with its client.
type BuildKit struct {
	*Process
	ctl  string
	addr string
}

// StartBuildKit starts a daemon that keeps its state in dir and uses the given registry
// on this machine, over plain HTTP, as a mirror of Docker Hub.
func StartBuildKit(ctx context.Context, dir, registry string) (*BuildKit, error) {
	bin, err := compileBuildKit(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &BuildKit{ctl: filepath.Join(bin, "buildctl"), addr: "unix://" + filepath.Join(dir, "sock")}
	config := filepath.Join(dir, "buildkitd.toml")
	text := fmt.Sprintf("[registry.\"docker.io\"]\nmirrors = [%q]\n[registry.%q]\nhttp = true\n[worker.containerd]\nenabled = false\n", registry, registry)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(bin, "buildkitd"), "--config", config, "--root", filepath.Join(dir, "root"), "--addr", b.addr,
		"--oci-worker-snapshotter", "overlayfs", "--oci-worker-net", "host",
		"--allow-insecure-entitlement", "network.host", "--allow-insecure-entitlement", "security.insecure")
	b.Process, err = Start(cmd, dir, func() bool { return b.Command(ctx, "debug", "workers").Run() == nil })
	return b, err
}

// Address returns the address of the daemon, for other clients.
func (b *BuildKit) Address() string { return b.addr }

// Command returns a command that runs the client with args.
func (b *BuildKit) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, b.ctl, append([]string{"--addr", b.addr}, args...)...)
}

// compileBuildKit compiles the daemon and the client once and returns the directory of
// the binaries. Their go.mod has replace directives, so "go install" refuses them; they
// are built from a temporary module that imports them.
func compileBuildKit(ctx context.Context) (bin string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "cairn-bench", "buildkit-"+BuildKitVersion)
	if _, err := os.Stat(filepath.Join(dir, "buildkitd")); err == nil {
		return dir, nil
	}
	temp, err := os.MkdirTemp("", "cairn-peers-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	source := fmt.Sprintf("//go:build tools\n\npackage peers\n\nimport (\n\t_ %q\n\t_ %q\n)\n", buildkitModule+"/cmd/buildkitd", buildkitModule+"/cmd/buildctl")
	if err := os.WriteFile(filepath.Join(temp, "peers.go"), []byte(source), 0o644); err != nil {
		return "", err
	}
	fmt.Fprintln(os.Stderr, "compiling BuildKit", BuildKitVersion)
	for _, args := range [][]string{
		{"mod", "init", "example.org/peers"},
		{"get", "-tags", "tools", buildkitModule + "/cmd/buildkitd@" + BuildKitVersion, buildkitModule + "/cmd/buildctl@" + BuildKitVersion},
		{"build", "-tags", "tools", "-mod=mod", "-o", dir + "/", buildkitModule + "/cmd/buildctl", buildkitModule + "/cmd/buildkitd"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = temp
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", cmd, err, bytes.TrimSpace(out))
		}
	}
	return dir, nil
}
