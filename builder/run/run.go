// Package run runs a command in an image of the store, as cairn run does.
package run

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/terminal"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
)

// Options describe a command and the image that it runs in.
type Options struct {
	Image      string
	Args       []string // replace the image's command
	Entrypoint *string  // replaces the image's; "" for none
	Env        []string // NAME=value, in addition to the image's
	Dir        string   // "" is the image's
	User       string   // "" is the image's
	Volumes    []string // HOST:PATH[:ro]
	Tmpfs      []string // paths of empty file systems in memory
	Network    string   // "host" or "" for the caller's; "none"
	Hostname   string
	Init       bool           // run an init process as process 1 that waits for orphans and forwards signals
	Platform   layer.Platform // choose its image; the zero value is this machine's, or else the only one
	Resources  cgroup.Limits

	Terminal       *terminal.Terminal // instead of the standard streams; nil for none
	Stdin          *os.File
	Stdout, Stderr io.Writer
	Signals        <-chan os.Signal // forwarded to the command
}

// Runner runs commands in images of the store, in the isolation mode of Images.
type Runner struct {
	Images *images.Manager
}

// Run runs a command in the sandbox that RUN uses, with the host's network, and returns
// its exit status. Changes to the file system are discarded.
func (r *Runner) Run(ctx context.Context, o Options) (status int, err error) {
	t, err := r.Images.Lookup(o.Image)
	if err != nil {
		return 0, err
	}
	if t.Image, err = images.ForPlatform(t, o.Image, o.Platform); err != nil {
		return 0, err
	}
	spec, err := o.spec(t.Image)
	if err != nil {
		return 0, err
	}
	if err := o.addInit(&spec, r.Images.Isolation.Mode); err != nil {
		return 0, err
	}
	if err := cmp.Or(r.Images.Isolation.CheckRun(), r.checkMounts(spec.Mounts)); err != nil {
		return 0, err
	}
	if spec.Cgroups, err = r.Images.Isolation.OpenCgroups(o.Resources); err != nil {
		return 0, err
	}
	defer func() {
		if err := spec.Cgroups.Close(); err != nil {
			r.Images.Progress.Warn("%v", err)
		}
	}()
	root, err := r.Images.Snapshots(ctx).StoredImage(t.Image, t.Ref).NewRoot(ctx)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	if err := root.Attach(&spec); err != nil {
		return 0, err
	}
	res, err := sandbox.Run(ctx, spec)
	if res.ExitCode != 0 && res.LimitReached != "" {
		fmt.Fprintln(o.Stderr, "cairn: the command failed:", res.LimitReached)
	}
	p, _ := t.Image.Platform() // spec has read the config
	return res.ExitCode, worker.ExplainPlatform(err, p)
}

// checkMounts rejects writable volumes in isolation mode chroot. There they would be moved
// into the command's tree, and lost with it if the command is killed.
func (r *Runner) checkMounts(mounts []sandbox.Mount) error {
	for _, m := range mounts {
		if r.Images.Isolation.Mode == sandbox.Chroot && !m.ReadOnly && m.Type != "tmpfs" {
			return fmt.Errorf("volume %s:%s: isolation mode chroot can't mount directories (see cairn info): use :ro for a copy", m.Source, m.Target)
		}
	}
	return nil
}

// spec combines the image's config and the options.
func (o *Options) spec(img layer.Image) (sandbox.Spec, error) {
	var cfg dockerspec.DockerOCIImage
	if err := json.Unmarshal(img.Config, &cfg); err != nil {
		return sandbox.Spec{}, fmt.Errorf("reading the config of %s: %w", o.Image, err)
	}
	s := sandbox.Spec{
		Args: o.command(cfg.Config), Env: setEnv(cfg.Config.Env, o.Env), Dir: cfg.Config.WorkingDir, MakeDir: true,
		User: cfg.Config.User, Hostname: o.hostname(), Network: o.Network,
		Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Interactive: true, Signals: o.Signals,
	}
	if o.Terminal != nil {
		s.Terminal = o.Terminal.File()
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
	for _, target := range o.Tmpfs {
		s.Mounts = append(s.Mounts, sandbox.Mount{Type: "tmpfs", Target: target})
	}
	return s, nil
}

// addInit makes this program process 1 of the command. In isolation mode chroot a process
// outside waits for orphans.
func (o *Options) addInit(s *sandbox.Spec, mode sandbox.Mode) error {
	if !o.Init || mode == sandbox.Chroot {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("--init: %w", err)
	}
	s.Mounts = append(s.Mounts, sandbox.Mount{Type: "bind", Source: self, Target: InitPath, ReadOnly: true})
	s.Args = append([]string{InitPath, "--"}, s.Args...)
	return nil
}

// hostname returns the chosen name, or else one for this run, as docker's.
func (o *Options) hostname() string {
	if o.Hostname != "" {
		return o.Hostname
	}
	b := make([]byte, 6)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// command returns the command line.
func (o *Options) command(cfg dockerspec.DockerOCIImageConfig) []string {
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

// setEnv sets variables, replacing those of the same name.
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

// mount parses a volume.
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

// absolute returns the absolute path of a file, with symbolic links resolved.
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
