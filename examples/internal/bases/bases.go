// Package bases builds the base images of the examples.
//
// The Dockerfiles of the examples start with FROM debian:bookworm, golang:1.26 and so
// on. Tests have no access to Docker Hub, so this package builds replacements with
// Cairn, from the machine's own busybox, debootstrap, Go toolchain and Node.js. It
// pushes them to a registry that the builds use as a mirror of Docker Hub.
package bases

import (
	"bytes"
	"cmp"
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
	Cairn    string    // path of the binary
	Root     string    // its store
	Registry string    // host:port, over plain HTTP
	Log      io.Writer // receives the output of commands
}

// Names lists the images that can be built, each after its own base image.
func Names() []string { return []string{"busybox", "debian", "golang", "node"} }

// Replacements lists images of Debian's packages that take the place of the official
// images of languages and servers.
func Replacements() []string {
	return []string{"distroless", "gradle", "jre", "maven", "nginx", "php", "python", "ruby", "rust"}
}

// tag returns the tag that the examples use for an image.
func tag(name string) string {
	tags := map[string]string{"busybox": "latest", "debian": "bookworm", "golang": "1.26", "node": "lts"}
	return cmp.Or(tags[name], "replacement")
}

// Reference returns the name of an image in the mirror of Docker Hub.
func Reference(name string) string { return "docker.io/library/" + name + ":" + tag(name) }

// Push builds the image name and its base image, and pushes both as library/NAME.
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
	if slices.Contains(Replacements(), name) {
		return m.replacement(ctx, name)
	}
	return fmt.Errorf("no base image is called %q", name)
}

// replacement builds an image of Debian's packages.
func (m Maker) replacement(ctx context.Context, name string, args ...string) error {
	if err := m.debian(ctx); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cairn-base-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return m.build(ctx, name, name, dir, args...)
}

// Nginx builds the replacement of nginx for a port, and returns its reference.
func (m Maker) Nginx(ctx context.Context, port string) (string, error) {
	tag := "/library/nginx:port-" + port
	return "docker.io" + tag, m.replacement(ctx, "nginx", "--build-arg", "PORT="+port, "-t", m.Registry+tag)
}

// Missing returns the reason why this machine cannot build an image, or "".
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

// ProxyArgs returns build arguments that pass the caller's proxies to RUN steps. They
// are predefined arguments: Dockerfiles need not declare them and images do not keep them.
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
	cache, err := m.compiledGo(ctx)
	if err != nil {
		return err
	}
	args := []string{"--build-context", "gocache=" + cache}
	for _, name := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB"} {
		value, err := output(ctx, "go", "env", name)
		if err != nil {
			return err
		}
		args = append(args, "--build-arg", name+"="+value)
	}
	return m.build(ctx, "golang", "golang", goroot, args...)
}

// compiledGo returns a build cache of Go with the packages that the examples use,
// compiled for their platforms. That takes a minute, so it stays in the user's cache
// directory.
func (m Maker) compiledGo(ctx context.Context) (dir string, err error) {
	version, err := output(ctx, "go", "env", "GOVERSION")
	if err != nil {
		return "", err
	}
	dir = filepath.Join(cacheDir(), "go-build-"+version)
	for _, arch := range []string{"amd64", "arm64", "arm"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "log", "net/http", "os/signal")
		cmd.Dir = os.TempDir() // outside this module
		cmd.Env = append(os.Environ(), "GOCACHE="+dir, "GOFLAGS=", "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOARM=7")
		cmd.Stdout, cmd.Stderr = m.Log, m.Log
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("%s for %s: %w", cmd, arch, err)
		}
	}
	return dir, nil
}

// cacheDir returns the directory of files that take long to make.
func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "cairn-examples")
}

// node copies the machine's Node.js if it is a single binary with npm beside it, and
// installs Debian's otherwise.
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
