package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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

// findEngine finds one on this machine: docker or podman by its socket, podman
// or containerd by its program. kind may name one.
func findEngine(kind string) (engine, error) {
	var tried []string
	for _, s := range engineSockets() {
		if kind != "auto" && kind != s.kind {
			continue
		}
		if c, err := net.Dial("unix", s.path); err == nil {
			c.Close()
			return engine{s.kind, func(ctx context.Context, r io.Reader) error { return loadBySocket(ctx, s.path, r) }}, nil
		}
		tried = append(tried, s.path)
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

type engineSocket struct{ kind, path string }

func engineSockets() []engineSocket {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		path, _ := strings.CutPrefix(host, "unix://")
		return []engineSocket{{"docker", path}}
	}
	all := []engineSocket{{"docker", "/var/run/docker.sock"}}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		all = append(all, engineSocket{"docker", filepath.Join(dir, "docker.sock")}, engineSocket{"podman", filepath.Join(dir, "podman/podman.sock")})
	}
	return append(all, engineSocket{"podman", "/run/podman/podman.sock"})
}

// loadBySocket speaks docker's API, which podman has too.
func loadBySocket(ctx context.Context, path string, r io.Reader) error {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine/images/load?quiet=1", io.NopCloser(r))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said := json.NewDecoder(io.LimitReader(resp.Body, 1<<20))
	for {
		var line struct{ Error, Message string }
		err := said.Decode(&line)
		switch {
		case line.Error != "":
			return errors.New(line.Error)
		case resp.StatusCode != http.StatusOK && line.Message != "":
			return errors.New(line.Message)
		case err != nil && resp.StatusCode != http.StatusOK:
			return fmt.Errorf("it answers %s", resp.Status)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("its answer: %w", err)
		}
	}
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
	engine, err := findEngine(b.loadInto)
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
