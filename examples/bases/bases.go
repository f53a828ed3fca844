// Package bases makes the images that the examples begin with.
//
// The Dockerfiles of the examples say FROM debian:bookworm, golang:1.26 and the
// like, as anyone's do. A test has no Docker Hub to take them from, so this
// package makes stand-ins with Cairn itself, from what the machine has: its
// busybox, debootstrap, Go toolchain and Node.js. They are pushed to a registry
// that the builds then use as a mirror of Docker Hub.
package bases

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

//go:embed *.Dockerfile golang.dockerignore
var files embed.FS

// Maker builds base images and pushes them.
type Maker struct {
	Cairn    string    // the program
	Root     string    // its store
	Registry string    // host:port, over plain HTTP
	Log      io.Writer // output of what is run
}

// Names lists the images that can be made, each after those that it begins with.
func Names() []string { return []string{"busybox", "debian", "golang", "node"} }

// tags are those that the examples use.
func tag(name string) string {
	return map[string]string{"busybox": "latest", "debian": "bookworm", "golang": "1.26", "node": "lts"}[name]
}

// Push makes one image and what it begins with, and pushes them as library/NAME.
func (m Maker) Push(ctx context.Context, name string) error {
	switch name {
	case "busybox":
		return m.busybox(ctx)
	case "debian":
		return m.debian(ctx)
	case "golang":
		return m.golang(ctx)
	case "node":
		return m.node(ctx)
	}
	return fmt.Errorf("no base image is called %q", name)
}

// Missing says what the machine lacks for an image; "" is nothing.
func Missing(name string) string {
	switch _, err := exec.LookPath("debootstrap"); {
	case name == "busybox":
		if _, err := os.Stat(busyboxPath); err != nil {
			return "no " + busyboxPath + " (package busybox-static)"
		}
	case err != nil:
		return "no debootstrap (package debootstrap)"
	case os.Getuid() != 0:
		return "debootstrap needs root"
	}
	return ""
}

// ProxyArgs gives the build arguments that carry the caller's proxies into RUN
// steps. They are predefined: no Dockerfile names them, and no image keeps them.
func ProxyArgs() []string {
	var args []string
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"} {
		for _, name := range []string{name, strings.ToLower(name)} {
			if os.Getenv(name) != "" {
				args = append(args, "--build-arg", name)
			}
		}
	}
	return args
}

// build builds and pushes an image from a context.
func (m Maker) build(ctx context.Context, name, dockerfile, dir string, args ...string) error {
	temp, err := os.MkdirTemp("", "cairn-base-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := os.CopyFS(temp, files); err != nil {
		return err
	}
	file := filepath.Join(temp, dockerfile+".Dockerfile")
	if ignore, err := files.ReadFile(dockerfile + ".dockerignore"); err == nil {
		if err := os.WriteFile(file+".dockerignore", ignore, 0o644); err != nil {
			return err
		}
	}
	args = slices.Concat([]string{
		"--root", m.Root, "build", "--progress", "plain", "--registry-mirror", m.Registry,
		"--push", "-t", m.Registry + "/library/" + name + ":" + tag(name), "-f", file,
	}, ProxyArgs(), args, []string{dir})
	return m.run(ctx, m.Cairn, args...)
}

// golang copies the Go toolchain that runs this program's tests.
func (m Maker) golang(ctx context.Context) error {
	if err := m.debian(ctx); err != nil {
		return err
	}
	goroot, err := output(ctx, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	var args []string
	for _, name := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB"} {
		value, err := output(ctx, "go", "env", name)
		if err != nil {
			return err
		}
		args = append(args, "--build-arg", name+"="+value)
	}
	return m.build(ctx, "golang", "golang", goroot, args...)
}

// node copies the machine's Node.js where that is one program with npm beside
// it, and installs Debian's otherwise.
func (m Maker) node(ctx context.Context) error {
	if err := m.debian(ctx); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cairn-base-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	args := []string{"--build-arg", "NPM_REGISTRY="}
	if registry, err := output(ctx, "npm", "config", "get", "registry"); err == nil {
		args[1] += registry
	}
	if m.stageNode(ctx, dir) == nil && m.build(ctx, "node", "node", dir, args...) == nil {
		return nil
	}
	return m.build(ctx, "node", "debian-node", dir, args...)
}

func (m Maker) stageNode(ctx context.Context, dir string) error {
	node, err := output(ctx, "node", "-p", "process.execPath")
	if err != nil {
		return err
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return err
	}
	if npm, err = filepath.EvalSymlinks(npm); err != nil {
		return err
	}
	if err := m.run(ctx, "cp", "-L", node, filepath.Join(dir, "node")); err != nil {
		return err
	}
	return m.run(ctx, "cp", "-a", filepath.Dir(filepath.Dir(npm)), filepath.Join(dir, "npm"))
}

func (m Maker) run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = m.Log, m.Log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", cmd, err)
	}
	return nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(bytes.TrimSpace(out)), nil
}

func arch() string { return runtime.GOARCH }
