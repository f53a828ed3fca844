package plan

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	defaultPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	historyComment = "buildkit.dockerfile.v0" // tools look for it
)

// dispatchAll plans the instructions of all needed stages.
func (p *planner) dispatchAll(target *stage) error {
	needed := p.needed(target)
	for _, s := range p.stages {
		if !needed[s] || s.done {
			continue
		}
		p.begin(s)
		for _, c := range s.commands {
			d := dispatcher{p, s, c, p.lint.For(c.Info()), s.workdir()}
			if err := d.dispatch(); err != nil {
				return p.file.At(err, c.Info().Ranges...)
			}
		}
		s.done = true
	}
	return nil
}

// begin initialises a stage's state from its base.
func (p *planner) begin(s *stage) {
	if b := s.base; b != nil {
		s.config, s.env, s.platform = cloneConfig(b.config), b.env.clone(), b.platform
		s.config.Config.OnBuild = nil
		p.announce(b)
		s.root, s.image = p.layered(b), b.image
		s.config.History = slices.Clone(b.config.History)
		s.args, s.absolute = slices.Clone(b.args), b.absolute
	}
	p.announce(s)
	p.layered(s)
	c := &s.config.Config
	hasPath := slices.ContainsFunc(c.Env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") })
	if !hasPath {
		c.Env = append(c.Env, "PATH="+defaultPath)
	}
	for _, kv := range c.Env {
		k, v, _ := strings.Cut(kv, "=")
		s.env.set(k, v)
	}
	if c.WorkingDir != "" {
		c.WorkingDir = joinWorkdir(c.WorkingDir, c.WorkingDir) // BuildKit joins a relative directory to itself
	}
}

// announce lists the FROM of an image as a step, once.
func (p *planner) announce(s *stage) {
	if s.announced || s.base != nil || s.image == nil || s.image.step == nil || s.image.linked != nil {
		return
	}
	s.announced = true
	name := s.image.ref
	if !strings.Contains(s.image.ref, "@") {
		name += "@" + string(s.image.image.Digest)
	}
	if s.instead != nil {
		if strings.Contains(s.image.ref, "://") {
			name = "OCI load from client"
		}
		name = "[context " + s.instead.name + "] " + name
	} else {
		name = p.stepName(s, "FROM "+name, false)
	}
	p.steps = append(p.steps, &StepInfo{
		Step: s.root, Name: name, Stage: s.name, Ranges: s.meta.Ranges, History: -1,
	})
}

// dispatcher plans one instruction of a stage.
type dispatcher struct {
	*planner
	stage   *stage
	command command
	lint    *dockerfile.Lint // for the lines of the instruction
	dir     string           // the working directory before the instruction
}

// dispatch expands the instruction's variables and plans it.
func (d *dispatcher) dispatch() error {
	word := func(text string) (string, error) {
		w, err := d.lex.Word(text, &d.stage.env)
		d.lintUndefined(w.Missing)
		return w.Text, err
	}
	raw := func(text string) (string, error) {
		w, err := d.lex.Raw(text, &d.stage.env)
		d.lintUndefined(w.Missing)
		return w.Text, err
	}
	in, err := dockerfile.Expand(d.command.Instruction, word, raw)
	if err != nil {
		return err
	}
	if err := refuse(in); err != nil {
		return err
	}
	d.command.Instruction = in
	return d.apply()
}

func (d *dispatcher) apply() error {
	switch in := d.command.Instruction.(type) {
	case *dockerfile.Add:
		return d.addFiles(in)
	case *dockerfile.Arg:
		return d.arg(in)
	case *dockerfile.Cmd:
		d.cmd(in)
	case *dockerfile.Copy:
		return d.copyFiles(in)
	case *dockerfile.Entrypoint:
		d.entrypoint(in)
	case *dockerfile.Env:
		d.setEnv(in)
	case *dockerfile.Expose:
		return d.expose(in)
	case *dockerfile.Healthcheck:
		d.health(in)
	case *dockerfile.Label:
		d.label(in)
	case *dockerfile.Maintainer:
		d.stage.config.Author = in.Name
		d.commit("MAINTAINER "+in.Name, false)
	case *dockerfile.Onbuild:
		d.stage.config.Config.OnBuild = append(d.stage.config.Config.OnBuild, in.Trigger)
	case *dockerfile.Run:
		return d.run(in)
	case *dockerfile.Shell:
		d.stage.config.Config.Shell = in.Args
		d.commit(fmt.Sprintf("SHELL %v", in.Args), false)
	case *dockerfile.StopSignal:
		return d.stopSignal(in)
	case *dockerfile.User:
		d.stage.config.Config.User = in.Name
		d.commit("USER "+in.Name, false)
	case *dockerfile.Volume:
		return d.volume(in)
	case *dockerfile.Workdir:
		d.workdir(in)
	default:
		return fmt.Errorf("unknown instruction %s", in.Info().Keyword)
	}
	return nil
}

// commit adds an entry to the image's history.
func (d *dispatcher) commit(text string, withLayer bool) {
	d.stage.config.History = append(d.stage.config.History, ocispec.History{
		CreatedBy: text, Comment: historyComment, EmptyLayer: !withLayer, Created: d.created,
	})
}

// addStep makes step the new tree of the stage, and adds the history entry of its
// layer.
func (d *dispatcher) addStep(step *solve.Step, name, history string) {
	d.addNamed(step, d.stepName(d.stage, name, d.command.onbuild), history)
}

// addNamed is like addStep for a name that is complete.
func (d *dispatcher) addNamed(step *solve.Step, name, history string) {
	step.NoCache = d.in.NoCache || d.noCacheFor()
	shell := d.shell()
	shell.Dir = d.dir
	d.steps = append(d.steps, &StepInfo{
		Step: step, Name: name, Stage: d.stage.name,
		Ranges: d.command.Info().Ranges, History: len(d.stage.config.History), Shell: shell,
	})
	d.commit(history, true)
	d.stage.root = step
}

// noCacheFor reports whether --no-cache-filter names the stage.
func (d *dispatcher) noCacheFor() bool {
	return d.stage.index >= 0 && slices.ContainsFunc(d.in.NoCacheFilter, func(name string) bool {
		return strings.EqualFold(name, d.stage.name) || strings.EqualFold(name, d.in.File.Stages[d.stage.index].As)
	})
}

// stepName returns the name of a step with its number within the stage, as
// BuildKit shows it.
func (p *planner) stepName(s *stage, text string, onbuild bool) string {
	if s.total == 0 {
		return text
	}
	var b strings.Builder
	b.WriteByte('[')
	if p.in.MultiPlatform {
		b.WriteString(s.platform.Full() + crossTarget(*s.platform, &s.env) + " ")
	}
	if s.name != "" {
		b.WriteString(s.name + " ")
	}
	s.step++
	fmt.Fprintf(&b, "%*d/%d] ", int(1+math.Log10(float64(s.total))), s.step, s.total)
	if onbuild {
		b.WriteString("ONBUILD ")
	}
	b.WriteString(text)
	return b.String()
}

// crossTarget returns the suffix of a stage's platform that shows the platform it
// cross-compiles for, such as "->arm64".
func crossTarget(base layer.Platform, e *env) string {
	target := layer.Platform{OS: base.OS, Architecture: base.Architecture}
	if v, ok := e.Get("TARGETPLATFORM"); ok {
		p, err := layer.ParsePlatform(v)
		if err != nil {
			return ""
		}
		target = p
	} else if v, ok := e.Get("TARGETARCH"); ok && v != "" {
		target.Architecture = v
		target.Variant, _ = e.Get("TARGETVARIANT")
	}
	target = target.Normalized()
	switch {
	case target.OS != base.OS:
		return "->" + target.Full()
	case target.Architecture != base.Architecture:
		return "->" + strings.TrimPrefix(target.String(), target.OS+"/")
	}
	return ""
}

// shown returns an instruction for display: with the keyword in upper case and
// variables expanded.
func (d *dispatcher) shown(source string, command bool, vars dockerfile.Vars) string {
	text := d.lex.Show(source, command, vars)
	word, rest, more := strings.Cut(text, " ")
	if !more {
		return strings.ToUpper(word)
	}
	return strings.ToUpper(word) + " " + rest
}

// joinWorkdir returns the working directory after WORKDIR dir. An absolute dir is
// kept as written.
func joinWorkdir(current, dir string) string {
	if current == "" {
		current = "/"
	}
	switch {
	case dir == "":
		return current
	case path.IsAbs(dir):
		return dir
	}
	return path.Join("/", current, dir)
}

func (s *stage) workdir() string {
	return path.Join("/", s.config.Config.WorkingDir)
}
