package peers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ComposeVersion is the release of docker compose to compile: the newest whose modules
// are all in Go's module proxy.
const ComposeVersion = "v5.1.0"

// DockerCompose compiles docker compose once and returns the path of the program. Its
// commands that build and run nothing need no daemon.
func DockerCompose(ctx context.Context) (string, error) {
	return compile(ctx, "docker-compose", ComposeVersion, "github.com/docker/compose/v5/cmd")
}

// compile compiles a program once, from a temporary module that imports its package,
// and returns its path.
func compile(ctx context.Context, name, version, pkg string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	program := filepath.Join(cache, "cairn-bench", name+"-"+version, name)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	temp, err := os.MkdirTemp("", "cairn-peers-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	source := fmt.Sprintf("//go:build tools\n\npackage peers\n\nimport _ %q\n", pkg)
	if err := os.WriteFile(filepath.Join(temp, "peers.go"), []byte(source), 0o644); err != nil {
		return "", err
	}
	fmt.Fprintln(os.Stderr, "compiling", name, version)
	for _, args := range [][]string{
		{"mod", "init", "example.org/peers"},
		{"get", "-tags", "tools", pkg + "@" + version},
		{"build", "-tags", "tools", "-mod=mod", "-o", program, pkg},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = temp
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", cmd, err, bytes.TrimSpace(out))
		}
	}
	return program, nil
}
