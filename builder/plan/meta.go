package plan

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/sys/signal"
)

// Instructions that change the configuration only. WORKDIR also makes a directory.

func (d *dispatcher) arg(in *dockerfile.Arg) error {
	var shown []string
	for _, a := range in.Args {
		d.lint.SecretName(in.Info(), "ARG", a.Key)
		value, err := d.argValue(a)
		if err != nil {
			return err
		}
		_, given := d.args[a.Key]
		_, global := d.globals.Get(a.Key)
		d.stage.outline.declare(in, a, value, !given && a.Value == nil && global)
		a.Value = value
		text := a.Key
		if value != nil {
			if a.Key != "BUILDKIT_SBOM_SCAN_CONTEXT" && a.Key != "BUILDKIT_SBOM_SCAN_STAGE" {
				d.stage.env.set(a.Key, *value)
			}
			text += "=" + *value
		}
		d.stage.declare(a)
		shown = append(shown, text)
	}
	d.commit("ARG "+strings.Join(shown, " "), false)
	return nil
}

// declare adds an ARG to the scope. An ARG that was declared before keeps its
// position.
func (s *stage) declare(a dockerfile.ArgPair) {
	i := slices.IndexFunc(s.args, func(b dockerfile.ArgPair) bool { return a.Key == b.Key })
	if i < 0 {
		s.args = append(s.args, a)
		return
	}
	s.args[i] = a
}

// argValue returns the value of an ARG: that of --build-arg, else its default,
// else the value of the ARG before the first FROM, else nil.
func (d *dispatcher) argValue(a dockerfile.ArgPair) (*string, error) {
	if v, ok := d.args[a.Key]; ok {
		return &v, nil
	}
	if a.Value != nil {
		w, err := d.lex.Word(*a.Value, &d.stage.env)
		d.lintUndefined(w.Missing)
		return &w.Text, err
	}
	if v, ok := d.globals.Get(a.Key); ok {
		return &v, nil
	}
	return nil, nil
}

func (d *dispatcher) setEnv(in *dockerfile.Env) {
	text := "ENV"
	for _, kv := range in.Pairs {
		if kv.Legacy {
			d.lint.LegacyPair(in.Info())
		}
		d.lint.SecretName(in.Info(), "ENV", kv.Key)
		text += " " + kv.Key + "=" + kv.Value
		d.stage.env.set(kv.Key, kv.Value)
		d.stage.config.Config.Env = setConfigEnv(d.stage.config.Config.Env, kv.Key, kv.Value)
	}
	d.commit(text, false)
}

func (d *dispatcher) label(in *dockerfile.Label) {
	text := "LABEL"
	if d.stage.config.Config.Labels == nil {
		d.stage.config.Config.Labels = make(map[string]string, len(in.Pairs))
	}
	for _, kv := range in.Pairs {
		if kv.Legacy {
			d.lint.LegacyPair(in.Info())
		}
		d.stage.config.Config.Labels[kv.Key] = kv.Value
		text += " " + kv.Key + "=" + kv.Value
	}
	d.commit(text, false)
}

func (d *dispatcher) cmd(in *dockerfile.Cmd) {
	d.warnOverridden(&d.stage.cmd)
	args := d.shellForm(in.Info(), in.CommandLine)
	d.stage.config.Config.Cmd = args
	//lint:ignore SA1019 deprecated, but BuildKit sets it, and configurations should be equal
	d.stage.config.Config.ArgsEscaped = true
	d.commit(fmt.Sprintf("CMD %q", args), false)
}

func (d *dispatcher) entrypoint(in *dockerfile.Entrypoint) {
	d.warnOverridden(&d.stage.entrypoint)
	args := d.shellForm(in.Info(), in.CommandLine)
	d.stage.config.Config.Entrypoint = args
	if d.stage.cmd == nil { // the base image's CMD belongs to its ENTRYPOINT
		d.stage.config.Config.Cmd = nil
	}
	d.commit(fmt.Sprintf("ENTRYPOINT %q", args), false)
}

func (d *dispatcher) shellForm(m *dockerfile.Meta, c dockerfile.CommandLine) []string {
	if !c.Shell {
		return c.Args
	}
	if len(d.stage.config.Config.Shell) == 0 {
		d.lint.ShellForm(m)
	}
	return withShell(d.stage, c.Args)
}

// withShell returns the arguments that run a command in the stage's shell.
func withShell(s *stage, args []string) []string {
	shell := s.config.Config.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(shell[:len(shell):len(shell)], strings.Join(args, " "))
}

// warnOverridden warns if an instruction replaces an earlier one of the stage.
func (d *dispatcher) warnOverridden(earlier *[]dockerfile.Range) {
	m := d.command.Info()
	if *earlier != nil {
		d.lint.Overridden(m, *earlier)
	}
	*earlier = m.Ranges
}

func (d *dispatcher) health(in *dockerfile.Healthcheck) {
	d.warnOverridden(&d.stage.healthcheck)
	h := dockerspec.HealthcheckConfig{
		Test: in.Test, Interval: in.Interval, Timeout: in.Timeout,
		StartPeriod: in.StartPeriod, StartInterval: in.StartInterval, Retries: in.Retries,
	}
	d.stage.config.Config.Healthcheck = &h
	d.commit(fmt.Sprintf("HEALTHCHECK %+v", h), false)
}

func (d *dispatcher) volume(in *dockerfile.Volume) error {
	if d.stage.config.Config.Volumes == nil {
		d.stage.config.Config.Volumes = map[string]struct{}{}
	}
	for _, v := range in.Paths {
		if v == "" {
			return errors.New("VOLUME specified can not be an empty string")
		}
		d.stage.config.Config.Volumes[v] = struct{}{}
	}
	d.commit(fmt.Sprintf("VOLUME %v", in.Paths), false)
	return nil
}

func (d *dispatcher) stopSignal(in *dockerfile.StopSignal) error {
	if _, err := signal.ParseSignal(in.Signal); err != nil {
		if numeric(in.Signal) {
			return err
		}
		return dockerfile.InBuildKit(dockerfile.DidYouMean(err, strings.ToUpper(in.Signal), signals()), err.Error())
	}
	d.stage.config.Config.StopSignal = in.Signal
	d.commit("STOPSIGNAL "+in.Signal, false)
	return nil
}

func signals() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(signal.SignalMap)) {
		names = append(names, "SIG"+name, name)
	}
	return names
}

// workdir plans a WORKDIR. Every directory except "/" gets a step, even if it
// exists.
func (d *dispatcher) workdir(in *dockerfile.Workdir) {
	if !d.stage.absolute && !path.IsAbs(in.Path) {
		d.lint.RelativeWorkdir(in.Info(), in.Path)
	}
	d.stage.absolute = true
	dir := joinWorkdir(d.stage.config.Config.WorkingDir, in.Path)
	d.stage.config.Config.WorkingDir = dir
	if d.stage.workdir() == "/" {
		d.commit("WORKDIR "+dir, false)
		return
	}
	o := op.Workdir{Path: d.stage.workdir(), User: d.stage.config.Config.User, Epoch: d.epoch}
	step := op.NewStep(o, solve.Input{Step: d.stage.root})
	d.addStep(step, d.shown(in.Source, false, &d.stage.env), "WORKDIR "+dir)
}
