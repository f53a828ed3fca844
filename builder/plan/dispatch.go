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
	historyComment = "buildkit.dockerfile.v0" // what tools look for
)

// dispatchAll goes through the instructions of every stage that is needed.
func (p *planner) dispatchAll(target *stage) error {
	needed := p.needed(target)
	for _, s := range p.stages {
		if !needed[s] || s.done {
			continue
		}
		p.begin(s)
		for _, c := range s.commands {
			if err := p.dispatch(s, c); err != nil {
				return p.file.At(err, c.Info().Ranges...)
			}
		}
		s.done = true
	}
	return nil
}

// begin sets a stage's state from what it is FROM.
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
		c.WorkingDir = joinWorkdir(c.WorkingDir, c.WorkingDir) // BuildKit joins a relative one to itself
	}
}

// announce adds the FROM of an image to the steps.
func (p *planner) announce(s *stage) {
	if s.announced || s.base != nil || s.image == nil || s.image.step == nil {
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

func (p *planner) dispatch(s *stage, c command) error {
	m := c.Info()
	lint := p.lint.For(m)
	word := func(text string) (string, error) {
		w, err := p.lex.Word(text, &s.env)
		p.lintUndefined(lint, m, s, w.Missing)
		return w.Text, err
	}
	raw := func(text string) (string, error) {
		w, err := p.lex.Raw(text, &s.env)
		p.lintUndefined(lint, m, s, w.Missing)
		return w.Text, err
	}
	in, err := dockerfile.Expand(c.Instruction, word, raw)
	if err != nil {
		return err
	}
	if err := refuse(in); err != nil {
		return err
	}
	c.Instruction = in
	return p.apply(s, c, lint)
}

func (p *planner) apply(s *stage, c command, lint *dockerfile.Lint) error {
	switch in := c.Instruction.(type) {
	case *dockerfile.Add:
		return p.addFiles(s, c, in, lint)
	case *dockerfile.Arg:
		return p.arg(s, in, lint)
	case *dockerfile.Cmd:
		p.cmd(s, in, lint)
	case *dockerfile.Copy:
		return p.copy(s, c, in, lint)
	case *dockerfile.Entrypoint:
		p.entrypoint(s, in, lint)
	case *dockerfile.Env:
		p.setEnv(s, in, lint)
	case *dockerfile.Expose:
		return p.expose(s, in, lint)
	case *dockerfile.Healthcheck:
		p.health(s, in, lint)
	case *dockerfile.Label:
		p.label(s, in, lint)
	case *dockerfile.Maintainer:
		s.config.Author = in.Name
		p.commit(s, "MAINTAINER "+in.Name, false)
	case *dockerfile.Onbuild:
		s.config.Config.OnBuild = append(s.config.Config.OnBuild, in.Trigger)
	case *dockerfile.Run:
		return p.run(s, c, in)
	case *dockerfile.Shell:
		s.config.Config.Shell = in.Args
		p.commit(s, fmt.Sprintf("SHELL %v", in.Args), false)
	case *dockerfile.StopSignal:
		return p.stopSignal(s, in)
	case *dockerfile.User:
		s.config.Config.User = in.Name
		p.commit(s, "USER "+in.Name, false)
	case *dockerfile.Volume:
		return p.volume(s, in)
	case *dockerfile.Workdir:
		p.workdir(s, c, in, lint)
	default:
		return fmt.Errorf("instruction %s is not known", in.Info().Keyword)
	}
	return nil
}

// commit adds an entry to the history.
func (p *planner) commit(s *stage, text string, withLayer bool) {
	s.config.History = append(s.config.History, ocispec.History{
		CreatedBy: text, Comment: historyComment, EmptyLayer: !withLayer, Created: p.created,
	})
}

// addStep makes the step of an instruction the stage's tree, and adds the entry
// to the history that goes with its layer.
func (p *planner) addStep(s *stage, c command, step *solve.Step, name, history string) {
	p.addNamed(s, c, step, p.stepName(s, name, c.onbuild), history)
}

// addNamed is addStep with the name in full.
func (p *planner) addNamed(s *stage, c command, step *solve.Step, name, history string) {
	step.Fresh = p.in.NoCache || p.anew(s)
	p.steps = append(p.steps, &StepInfo{
		Step: step, Name: name, Stage: s.name,
		Ranges: c.Info().Ranges, History: len(s.config.History),
	})
	p.commit(s, history, true)
	s.root = step
}

// anew tells whether a stage is one of those that are to be built anew.
func (p *planner) anew(s *stage) bool {
	return s.index >= 0 && slices.ContainsFunc(p.in.Anew, func(name string) bool {
		return strings.EqualFold(name, s.name) || strings.EqualFold(name, p.in.File.Stages[s.index].As)
	})
}

// stepName numbers a step within its stage, as BuildKit does.
func (p *planner) stepName(s *stage, text string, onbuild bool) string {
	if s.total == 0 {
		return text
	}
	var b strings.Builder
	b.WriteByte('[')
	if p.in.MultiPlatform {
		b.WriteString(s.platform.String() + crossTarget(*s.platform, &s.env) + " ")
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

// crossTarget shows what a stage that runs here builds for: "->arm64".
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
		return "->" + target.String()
	case target.Architecture != base.Architecture:
		return "->" + strings.TrimPrefix(target.String(), target.OS+"/")
	}
	return ""
}

// shown is an instruction as people see it: keyword in upper case, variables
// expanded.
func (p *planner) shown(source string, command bool, vars dockerfile.Vars) string {
	text := p.lex.Show(source, command, vars)
	word, rest, more := strings.Cut(text, " ")
	if !more {
		return strings.ToUpper(word)
	}
	return strings.ToUpper(word) + " " + rest
}

// joinWorkdir is the working directory after a WORKDIR. An absolute one is
// kept as it is written.
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
