package command

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

// engine is a container engine that loads images from Docker archives.
type engine struct {
	name string
	at   string // its address or program
	load func(context.Context, io.Reader) error
	// loadAll loads an index of several platforms; nil: as load does.
	loadAll func(context.Context, io.Reader) error
	// several reports whether the engine keeps the images of all platforms of an index.
	several func(context.Context) bool
}

// findEngine returns an engine of this machine: Docker or Podman by its API, Podman
// or containerd by its program. kind is the name of an engine or auto.
func findEngine(ctx context.Context, kind string) (engine, error) {
	var tried []string
	for _, a := range engineAddresses() {
		if kind != "auto" && kind != a.kind {
			continue
		}
		c, err := a.dial(ctx)
		if err == nil {
			c.Close()
			return engine{name: a.kind, at: a.String(), load: a.load, several: a.several}, nil
		}
		switch {
		case a.err != nil:
			return engine{}, fmt.Errorf("--load: %w", err)
		case a.source != "":
			return engine{}, fmt.Errorf("--load: can't reach %s, from %s: %w", a, a.source, err)
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
		case uid != 0: // in the user namespace of a build it would believe to be root
			tried = append(tried, "the program "+p[1]+" (only as root)")
		case p[0] == "containerd" && exec.Command("ctr", "version").Run() != nil:
			tried = append(tried, "containerd, which ctr does not reach")
		default:
			e := engine{name: p[0], at: "the program " + p[1], several: func(context.Context) bool { return p[0] == "containerd" }}
			e.load = func(ctx context.Context, r io.Reader) error { return loadByProgram(ctx, r, p[1:]) }
			if p[0] == "containerd" {
				all := slices.Insert(slices.Clone(p[1:]), 3, "--all-platforms")
				e.loadAll = func(ctx context.Context, r io.Reader) error { return loadByProgram(ctx, r, all) }
			}
			return e, nil
		}
	}
	return engine{}, fmt.Errorf("--load: no container engine found: tried %s", strings.Join(tried, ", "))
}

func loadByProgram(ctx context.Context, r io.Reader, program []string) error {
	cmd := exec.CommandContext(ctx, program[0], program[1:]...)
	cmd.Stdin = r
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(program, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// engineWriter passes the archive that a build writes to an engine. The engine is
// called with the first byte.
type engineWriter struct {
	engine engine
	ctx    context.Context // of the build
	once   sync.Once
	w      *io.PipeWriter
	done   chan error
}

func (l *engineWriter) Write(p []byte) (int, error) {
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

// finish ends the archive with the error of the build, waits for the engine, and
// returns the error of either.
func (l *engineWriter) finish(built error) error {
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

// buildAndLoad builds the image and loads it into the engine of --load. It looks for
// the engine before the build.
func (b *buildCommand) buildAndLoad(ctx context.Context, env *environment) (*builder.Built, error) {
	if b.engine == "" {
		return env.build(ctx, b.options)
	}
	engine, err := findEngine(ctx, b.engine)
	if err != nil {
		return nil, err
	}
	o := b.options
	load := builder.Output{Type: "docker", Writer: "engine", Title: "loading into " + engine.name}
	index, err := o.MultiPlatform()
	if err != nil {
		return nil, err
	}
	if load.One = index && !engine.several(ctx); load.One && len(o.Platforms) > 1 {
		env.Progress.Warn("%s keeps images of one platform only: loading the one for this machine, or else for %s", engine.name, o.Platforms[0])
	}
	if index && !load.One && engine.loadAll != nil {
		engine.load = engine.loadAll
	}
	w := &engineWriter{engine: engine, ctx: ctx}
	o.Outputs = append(slices.Clone(o.Outputs), load)
	o.Writers = map[string]io.Writer{"engine": w}
	built, err := env.build(ctx, o)
	if err = w.finish(err); err == nil {
		b.loaded = fmt.Sprintf("loaded into %s (%s)", engine.name, engine.at)
	}
	return built, err
}

// engineNames returns the values of --load.
func engineNames() []string { return []string{"auto", "docker", "podman", "containerd"} }

// loadFlag adds --load, which has an optional engine as its value.
func loadFlag(f *pflag.FlagSet, to *string) {
	engines := engineNames()
	parsedFlag(f, "load", "", strings.Join(engines, "|"), "Load the image into Docker, Podman or containerd", func(s string) error {
		if on, err := strconv.ParseBool(s); err == nil {
			*to = map[bool]string{true: engines[0]}[on]
			return nil
		}
		if !slices.Contains(engines, s) {
			return fmt.Errorf("want one of %s", strings.Join(engines, ", "))
		}
		*to = s
		return nil
	})
	f.Lookup("load").NoOptDefVal = engines[0]
}
