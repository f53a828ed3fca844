package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/sandbox"
)

// An engine runs containers, and takes images as docker's archives.
type engine struct {
	name string
	load func(context.Context, io.Reader) error
}

// findEngine finds one on this machine: docker or podman by its API, podman
// or containerd by its program. kind may name one.
func findEngine(ctx context.Context, kind string) (engine, error) {
	var tried []string
	for _, a := range engineAddresses() {
		if kind != "auto" && kind != a.kind {
			continue
		}
		c, err := a.dial(ctx)
		if err == nil {
			c.Close()
			return engine{a.kind, a.load}, nil
		}
		if a.variable != "" {
			return engine{}, fmt.Errorf("--load: %s, from %s, can't be reached: %w", a, a.variable, err)
		}
		tried = append(tried, a.String())
	}
	uid, _ := sandbox.HostIDs()
	for _, p := range [...][]string{{"containerd", "ctr", "images", "import", "-"}, {"podman", "podman", "load"}} {
		if kind != "auto" && kind != p[0] {
			continue
		}
		_, err := exec.LookPath(p[1])
		switch {
		case err != nil:
			tried = append(tried, "the program "+p[1])
		case uid != 0: // in the user namespace of a build it would take itself for root
			tried = append(tried, "the program "+p[1]+" (only as root)")
		case p[0] == "containerd" && exec.Command("ctr", "version").Run() != nil:
			tried = append(tried, "containerd, which ctr does not reach")
		default:
			return engine{p[0], func(ctx context.Context, r io.Reader) error { return loadByProgram(ctx, r, p[1:]) }}, nil
		}
	}
	return engine{}, fmt.Errorf("--load: there is nothing to load the image into: tried %s", strings.Join(tried, ", "))
}

func loadByProgram(ctx context.Context, r io.Reader, program []string) error {
	cmd := exec.CommandContext(ctx, program[0], program[1:]...)
	cmd.Stdin = r
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(program, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// loading is an image on its way into an engine: what a build writes its
// archive to. The engine hears of it with the first byte.
type loading struct {
	engine engine
	ctx    context.Context // of the build
	once   sync.Once
	w      *io.PipeWriter
	done   chan error
}

func (l *loading) Write(p []byte) (int, error) {
	l.once.Do(func() {
		r, w := io.Pipe()
		l.w, l.done = w, make(chan error, 1)
		go func() {
			err := l.engine.load(l.ctx, r)
			r.CloseWithError(io.ErrClosedPipe)
			l.done <- err
		}()
	})
	return l.w.Write(p)
}

// end waits until the image is loaded, or tells the engine that there will be
// no more of it.
func (l *loading) end(built error) error {
	if l.w == nil {
		return built
	}
	l.w.CloseWithError(built)
	err := <-l.done
	if err != nil && (built == nil || errors.Is(built, io.ErrClosedPipe)) {
		return fmt.Errorf("loading the image into %s: %w", l.engine.name, err)
	}
	return built
}

// carryOut builds, and loads what was built into the engine of --load. One that
// is not there is an error before the build.
func (b *buildFlags) carryOut(ctx context.Context, with *builder.Builder) (*builder.Built, error) {
	if b.loadInto == "" {
		return with.Build(ctx, b.Options)
	}
	engine, err := findEngine(ctx, b.loadInto)
	if err != nil {
		return nil, err
	}
	l := &loading{engine: engine, ctx: ctx}
	o := b.Options
	o.Outputs = append(slices.Clone(o.Outputs), builder.Output{Type: "docker", Dest: "-", Stdout: l, Title: "loading into " + engine.name})
	built, err := with.Build(ctx, o)
	return built, l.end(err)
}

// loadFlag reads --load, alone or with an engine.
func loadFlag(f *pflag.FlagSet, to *string) {
	engines := []string{"auto", "docker", "podman", "containerd"}
	f.Var(&parsed{kind: strings.Join(engines, "|"), set: func(s string) error {
		if on, err := strconv.ParseBool(s); err == nil {
			*to = map[bool]string{true: engines[0]}[on]
			return nil
		}
		if !slices.Contains(engines, s) {
			return fmt.Errorf("want one of %s", strings.Join(engines, ", "))
		}
		*to = s
		return nil
	}}, "load", "load the image into docker, podman or containerd, whichever is found")
	f.Lookup("load").NoOptDefVal = engines[0]
}
