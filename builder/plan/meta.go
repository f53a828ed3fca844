package plan

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/sys/signal"
)

// The instructions that only change the configuration; WORKDIR makes a
// directory as well.

func (p *planner) arg(s *stage, in *dockerfile.Arg, lint *dockerfile.Lint) error {
	var shown []string
	for _, a := range in.Args {
		lint.SecretName(in.Info(), "ARG", a.Key)
		value, err := p.argValue(s, in, a, lint)
		if err != nil {
			return err
		}
		_, given := p.args[a.Key]
		_, global := p.globals.Get(a.Key)
		s.outline.declare(in, a, value, !given && a.Value == nil && global)
		a.Value = value
		text := a.Key
		if value != nil {
			if a.Key != "BUILDKIT_SBOM_SCAN_CONTEXT" && a.Key != "BUILDKIT_SBOM_SCAN_STAGE" {
				s.env.set(a.Key, *value)
			}
			text += "=" + *value
		}
		s.declare(a)
		shown = append(shown, text)
	}
	p.commit(s, "ARG "+strings.Join(shown, " "), false)
	return nil
}

// declare puts an ARG in scope. One that is there already keeps its place.
func (s *stage) declare(a dockerfile.ArgPair) {
	i := slices.IndexFunc(s.args, func(b dockerfile.ArgPair) bool { return a.Key == b.Key })
	if i < 0 {
		s.args = append(s.args, a)
		return
	}
	s.args[i] = a
}

// argValue: a --build-arg, else the default, else what the name has before the
// first FROM.
func (p *planner) argValue(s *stage, in *dockerfile.Arg, a dockerfile.ArgPair, lint *dockerfile.Lint) (*string, error) {
	if v, ok := p.args[a.Key]; ok {
		return &v, nil
	}
	if a.Value != nil {
		w, err := p.lex.Word(*a.Value, &s.env)
		p.lintUndefined(lint, in.Info(), s, w.Missing)
		return &w.Text, err
	}
	if v, ok := p.globals.Get(a.Key); ok {
		return &v, nil
	}
	return nil, nil
}

func (p *planner) setEnv(s *stage, in *dockerfile.Env, lint *dockerfile.Lint) {
	text := "ENV"
	for _, kv := range in.Pairs {
		if kv.Legacy {
			lint.LegacyPair(in.Info())
		}
		lint.SecretName(in.Info(), "ENV", kv.Key)
		text += " " + kv.Key + "=" + kv.Value
		s.env.set(kv.Key, kv.Value)
		s.config.Config.Env = setConfigEnv(s.config.Config.Env, kv.Key, kv.Value)
	}
	p.commit(s, text, false)
}

func (p *planner) label(s *stage, in *dockerfile.Label, lint *dockerfile.Lint) {
	text := "LABEL"
	if s.config.Config.Labels == nil {
		s.config.Config.Labels = make(map[string]string, len(in.Pairs))
	}
	for _, kv := range in.Pairs {
		if kv.Legacy {
			lint.LegacyPair(in.Info())
		}
		s.config.Config.Labels[kv.Key] = kv.Value
		text += " " + kv.Key + "=" + kv.Value
	}
	p.commit(s, text, false)
}

func (p *planner) cmd(s *stage, in *dockerfile.Cmd, lint *dockerfile.Lint) {
	once(&s.cmd, in.Info(), lint)
	args := p.shellForm(s, in.Info(), in.CommandLine, lint)
	s.config.Config.Cmd = args
	//lint:ignore SA1019 it is deprecated, but BuildKit sets it, and configurations should agree
	s.config.Config.ArgsEscaped = true
	p.commit(s, fmt.Sprintf("CMD %q", args), false)
}

func (p *planner) entrypoint(s *stage, in *dockerfile.Entrypoint, lint *dockerfile.Lint) {
	once(&s.entrypoint, in.Info(), lint)
	args := p.shellForm(s, in.Info(), in.CommandLine, lint)
	s.config.Config.Entrypoint = args
	if s.cmd == nil { // the one of the base image goes with the base image's entrypoint
		s.config.Config.Cmd = nil
	}
	p.commit(s, fmt.Sprintf("ENTRYPOINT %q", args), false)
}

func (p *planner) shellForm(s *stage, m *dockerfile.Meta, c dockerfile.CommandLine, lint *dockerfile.Lint) []string {
	if !c.Shell {
		return c.Args
	}
	if len(s.config.Config.Shell) == 0 {
		lint.ShellForm(m)
	}
	return withShell(s, c.Args)
}

// withShell gives a command to the stage's shell.
func withShell(s *stage, args []string) []string {
	shell := s.config.Config.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(shell[:len(shell):len(shell)], strings.Join(args, " "))
}

// once warns when an instruction replaces an earlier one of the stage.
func once(earlier *[]dockerfile.Range, m *dockerfile.Meta, lint *dockerfile.Lint) {
	if *earlier != nil {
		lint.Overridden(m, *earlier)
	}
	*earlier = m.Ranges
}

func (p *planner) health(s *stage, in *dockerfile.Healthcheck, lint *dockerfile.Lint) {
	once(&s.healthcheck, in.Info(), lint)
	h := dockerspec.HealthcheckConfig{
		Test: in.Test, Interval: in.Interval, Timeout: in.Timeout,
		StartPeriod: in.StartPeriod, StartInterval: in.StartInterval, Retries: in.Retries,
	}
	s.config.Config.Healthcheck = &h
	p.commit(s, fmt.Sprintf("HEALTHCHECK %+v", h), false)
}

func (p *planner) volume(s *stage, in *dockerfile.Volume) error {
	if s.config.Config.Volumes == nil {
		s.config.Config.Volumes = map[string]struct{}{}
	}
	for _, v := range in.Paths {
		if v == "" {
			return errors.New("VOLUME specified can not be an empty string")
		}
		s.config.Config.Volumes[v] = struct{}{}
	}
	p.commit(s, fmt.Sprintf("VOLUME %v", in.Paths), false)
	return nil
}

func (p *planner) stopSignal(s *stage, in *dockerfile.StopSignal) error {
	if _, err := signal.ParseSignal(in.Signal); err != nil {
		if numeric(in.Signal) {
			return err
		}
		return dockerfile.DidYouMean(err, strings.ToUpper(in.Signal), signals())
	}
	s.config.Config.StopSignal = in.Signal
	p.commit(s, "STOPSIGNAL "+in.Signal, false)
	return nil
}

func signals() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(signal.SignalMap)) {
		names = append(names, "SIG"+name, name)
	}
	return names
}

// workdir makes a step for any directory but the root, even if it is there.
func (p *planner) workdir(s *stage, c command, in *dockerfile.Workdir, lint *dockerfile.Lint) {
	if !s.absolute && !path.IsAbs(in.Path) {
		lint.RelativeWorkdir(in.Info(), in.Path)
	}
	s.absolute = true
	dir := joinWorkdir(s.config.Config.WorkingDir, in.Path)
	s.config.Config.WorkingDir = dir
	if s.workdir() == "/" {
		p.commit(s, "WORKDIR "+dir, false)
		return
	}
	op := Workdir{Path: s.workdir(), User: s.config.Config.User, Epoch: p.epoch}
	step := &solve.Step{Op: encode("workdir", op), In: []solve.Input{{Step: s.root}}}
	p.addStep(s, c, step, p.shown(in.Source, false, &s.env), "WORKDIR "+dir)
}
