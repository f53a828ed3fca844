package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// peer is a builder under measurement: it builds a context and pushes the image.
type peer interface {
	name() string
	tag() string // tag of its images
	version() string
	build(ctx context.Context, j job) (sample, error)
	// carry builds once, untimed, and exports the cache to the registry.
	carry(ctx context.Context, j job) error
	// empty removes everything that the peer has stored.
	empty(ctx context.Context) error
}

// cacheOf returns the reference of a workload's cache in the registry.
func (l *lab) cacheOf(p peer, j job) string {
	return l.registry + "/bench/" + j.name + "-cache-" + p.tag() + ":cache"
}

type cairn struct{ *lab }

func (cairn) name() string    { return "Cairn" }
func (cairn) tag() string     { return "cairn" }
func (cairn) version() string { return "" }

func (c cairn) args(j job, more ...string) []string {
	return slices.Concat([]string{"--root", c.root(), "build", "--progress", "plain", "--registry-mirror", c.registry}, more, []string{j.dir})
}

func (c cairn) build(ctx context.Context, j job) (sample, error) {
	args := []string{"-t", j.image(c.lab, c), "--push"}
	if j.noCache {
		args = append(args, "--no-cache")
	}
	if j.carried {
		args = append(args, "--cache-from", "type=registry,ref="+c.cacheOf(c, j))
	}
	return timed(exec.CommandContext(ctx, c.cairn, c.args(j, args...)...))
}

func (c cairn) carry(ctx context.Context, j job) error {
	to := "type=registry,mode=max,ignore-error=false,ref=" + c.cacheOf(c, j)
	_, err := output(ctx, "", c.cairn, c.args(j, "--cache-to", to)...)
	return err
}

func (c cairn) empty(context.Context) error { return os.RemoveAll(c.root()) }

// buildah is Debian's Buildah, with a store in the lab.
type buildah struct {
	*lab
	about string
}

func (buildah) name() string      { return "Buildah" }
func (buildah) tag() string       { return "buildah" }
func (b buildah) version() string { return b.about }

func (b buildah) command(ctx context.Context, args ...string) *exec.Cmd {
	dir := filepath.Join(b.dir, "buildah")
	c := exec.CommandContext(ctx, "buildah", append([]string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run")}, args...)...)
	c.Env = append(os.Environ(), "CONTAINERS_REGISTRIES_CONF="+filepath.Join(dir, "registries.conf"), "BUILDAH_ISOLATION=chroot")
	return c
}

// build builds, then pushes: two commands, whose times are added. The process limits
// are low enough not to need raising.
func (b buildah) build(ctx context.Context, j job) (sample, error) {
	args := []string{}
	if j.noCache {
		args = append(args, "--no-cache")
	}
	if j.carried {
		args = append(args, "--cache-from", repository(b.cacheOf(b, j)))
	}
	s, err := timed(b.command(ctx, b.args(j, args...)...))
	if err != nil {
		return s, err
	}
	push, err := timed(b.command(ctx, "push", "-q", j.image(b.lab, b)))
	s.wall += push.wall
	s.peak = max(s.peak, push.peak)
	return s, err
}

func (b buildah) args(j job, more ...string) []string {
	return slices.Concat([]string{"build", "--layers", "--network", "host", "--ulimit", "nofile=20000:20000",
		"--ulimit", "nproc=32768:32768", "-t", j.image(b.lab, b)}, more, []string{j.dir})
}

func (b buildah) carry(ctx context.Context, j job) error {
	_, err := timed(b.command(ctx, b.args(j, "--cache-to", repository(b.cacheOf(b, j)))...))
	return err
}

func (b buildah) empty(ctx context.Context) error {
	_, err := timed(b.command(ctx, "rmi", "-a", "-f"))
	return err
}

// repository returns ref without its tag.
func repository(ref string) string { return ref[:strings.LastIndexByte(ref, ':')] }

// startBuildah prepares Buildah. It returns an error if this machine's Buildah cannot
// build.
func (l *lab) startBuildah(ctx context.Context) (buildah, error) {
	b := buildah{lab: l}
	dir := filepath.Join(l.dir, "buildah")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return b, err
	}
	text := fmt.Sprintf("unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"disabled\"\n[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n"+
		"[[registry]]\nlocation = %q\ninsecure = true\n", l.registry, l.registry)
	if err := os.WriteFile(filepath.Join(dir, "registries.conf"), []byte(text), 0o600); err != nil {
		return b, err
	}
	about, err := b.command(ctx, "--version").Output()
	if err != nil {
		return b, err
	}
	b.about = strings.TrimSpace(string(about))
	try := filepath.Join(l.dir, "try")
	if err := os.MkdirAll(try, 0o755); err != nil {
		return b, err
	}
	if err := dockerfile(try, "FROM docker.io/library/busybox\nRUN true\n"); err != nil {
		return b, err
	}
	_, err = b.build(ctx, job{workload: workload{name: "try"}, dir: try})
	return b, err
}
