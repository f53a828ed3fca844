package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// RunOptions say how to run a command in an image.
type RunOptions struct {
	Image      string
	Args       []string // in place of the image's command
	Entrypoint *string  // in place of the image's; "" for none
	Env        []string // NAME=value, added to the image's
	Dir        string   // "" is the image's
	User       string   // "" is the image's
	Volumes    []string // HOST:PATH[:ro]
	Hostname   string
	Limits     cgroup.Limits

	Stdin          *os.File
	Stdout, Stderr io.Writer
	Signals        <-chan os.Signal // sent on to the command
}

// Run runs a command in an image of the store, through the sandbox that steps
// of builds run in, on the host's network. What it changes is thrown away. It
// gives the command's exit status.
func (b *Builder) Run(ctx context.Context, o RunOptions) (int, error) {
	img, name, err := b.Image(o.Image)
	if err != nil {
		return 0, err
	}
	spec, err := o.spec(img)
	if err != nil {
		return 0, err
	}
	if err := cmp.Or(b.Isolation.Refusal(), b.lends(spec.Mounts)); err != nil {
		return 0, err
	}
	if spec.Groups, err = b.Isolation.Limit(o.Limits); err != nil {
		return 0, err
	}
	defer b.leave(spec.Groups)
	w := b.worker(ctx)
	result := w.Stored(img, name)
	if spec.Lowers, err = w.Trees(ctx, result); err != nil {
		return 0, err
	}
	scratch, err := w.Upper(ctx, result)
	if err != nil {
		return 0, err
	}
	defer scratch.Close()
	spec.Upper, spec.Work = scratch.Dir, scratch.Work
	done, err := w.Plainly(ctx, result, &spec)
	if err != nil {
		return 0, err
	}
	defer done()
	res, err := sandbox.Run(ctx, spec)
	if res.ExitCode != 0 && res.Reached != "" {
		fmt.Fprintln(o.Stderr, "cairn: the command failed:", res.Reached)
	}
	p, _ := img.Platform() // spec has read the config
	return res.ExitCode, worker.Foreign(err, p)
}

// lends refuses what would be moved into the command's tree, and lost with it should
// the command be killed: nobody's own files are.
func (b *Builder) lends(mounts []sandbox.Mount) error {
	for _, m := range mounts {
		if b.Isolation.Rung == sandbox.Chroot && !m.ReadOnly {
			return fmt.Errorf("volume %s:%s: nothing can be mounted here (see cairn info): a command can only have a copy, with :ro", m.Source, m.Target)
		}
	}
	return nil
}

// spec puts the image's config and the options together.
func (o *RunOptions) spec(img layer.Image) (sandbox.Spec, error) {
	var cfg dockerspec.DockerOCIImage
	if err := json.Unmarshal(img.Config, &cfg); err != nil {
		return sandbox.Spec{}, fmt.Errorf("reading the config of %s: %w", o.Image, err)
	}
	s := sandbox.Spec{
		Args: o.command(cfg.Config), Env: setEnv(cfg.Config.Env, o.Env), Dir: cfg.Config.WorkingDir, MakeDir: true,
		User: cfg.Config.User, Hostname: o.Hostname,
		Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Interactive: true, Signals: o.Signals,
	}
	if len(s.Args) == 0 {
		return s, fmt.Errorf("%s has neither ENTRYPOINT nor CMD: name a command after it", o.Image)
	}
	if o.Dir != "" {
		s.Dir = o.Dir
	}
	if o.User != "" {
		s.User = o.User
	}
	for _, v := range o.Volumes {
		m, err := mount(v)
		if err != nil {
			return s, err
		}
		s.Mounts = append(s.Mounts, m)
	}
	return s, nil
}

func (o *RunOptions) command(cfg dockerspec.DockerOCIImageConfig) []string {
	entry, args := cfg.Entrypoint, cfg.Cmd
	if o.Entrypoint != nil {
		entry, args = nil, nil
		if *o.Entrypoint != "" {
			entry = []string{*o.Entrypoint}
		}
	}
	if len(o.Args) > 0 {
		args = o.Args
	}
	return append(slices.Clone(entry), args...)
}

// setEnv adds variables, each in place of one of the same name.
func setEnv(env, more []string) []string {
	out := slices.Clone(env)
	for _, kv := range more {
		name, _, _ := strings.Cut(kv, "=")
		i := slices.IndexFunc(out, func(s string) bool { return strings.HasPrefix(s, name+"=") })
		if i < 0 {
			out = append(out, kv)
		} else {
			out[i] = kv
		}
	}
	return out
}

func mount(v string) (sandbox.Mount, error) {
	parts := strings.Split(v, ":")
	if len(parts) < 2 || len(parts) > 3 || len(parts) == 3 && parts[2] != "ro" && parts[2] != "rw" {
		return sandbox.Mount{}, fmt.Errorf("volume %q: want HOST:PATH or HOST:PATH:ro", v)
	}
	if !path.IsAbs(parts[1]) {
		return sandbox.Mount{}, errors.New("volume " + v + ": the path inside the image must be absolute")
	}
	src, err := absolute(parts[0])
	if err != nil {
		return sandbox.Mount{}, fmt.Errorf("volume %q: %w", v, err)
	}
	return sandbox.Mount{Type: "bind", Source: src, Target: parts[1], ReadOnly: len(parts) == 3 && parts[2] == "ro"}, nil
}

// absolute also follows the links to what a path names.
func absolute(p string) (string, error) {
	if _, err := os.Stat(p); err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(p)
	if err != nil {
		return "", err
	}
	return filepath.Abs(real)
}
