package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/layer"
)

// lintDefaults warns of FROM lines that name no image unless a --build-arg is
// given.
func (p *planner) lintDefaults(globals *env) {
	for i := range p.file.Stages {
		s := &p.file.Stages[i]
		w, err := p.lex.Word(s.Base, globals)
		if err != nil {
			return
		}
		if _, err := normalize(w.Text); err != nil && w.Text != scratchName {
			p.lint.InvalidDefaultArg(&s.Meta, s.Base)
		}
	}
}

// lintMissing warns of variables in a FROM that no ARG declares.
func (p *planner) lintMissing(lint *dockerfile.Lint, m *dockerfile.Meta, missing []string) {
	if len(missing) == 0 {
		return
	}
	known := append(slices.Sorted(maps.Keys(p.declared)), p.globals.Keys()...)
	for _, name := range missing {
		if !slices.Contains(known, name) {
			lint.UndefinedArgInFrom(m, name, known)
		}
	}
}

func (p *planner) lintPlatform(lint *dockerfile.Lint, s *dockerfile.Stage, w dockerfile.Word) {
	const name = "TARGETPLATFORM"
	target, _ := p.globals.Get(name)
	if len(w.Missing) == 0 && len(w.Set) == 1 && w.Set[0] == name && w.Text == target {
		lint.RedundantPlatform(&s.Meta, s.Platform)
	}
	if len(w.Set) > 0 || len(w.Missing) > 0 {
		return
	}
	// A stage named after its platform is meant to be for it.
	platform, err := layer.ParsePlatform(w.Text)
	if err == nil && !strings.Contains(s.As, platform.OS) && !strings.Contains(s.As, platform.Architecture) {
		lint.ConstPlatform(&s.Meta, w.Text)
	}
}

func (p *planner) lintBasePlatform(s *stage) {
	want, have := s.image.platform, s.image.config.Platform
	if want.OS == have.OS && want.Architecture == have.Architecture {
		return
	}
	actual := layer.Platform{OS: have.OS, Architecture: have.Architecture, Variant: have.Variant}
	p.lint.BasePlatform(s.meta, s.baseName, want.Normalized().String(), actual.Normalized().String())
}

// lintUndefined warns of variables without a value, unless an ARG declares them.
func (p *planner) lintUndefined(lint *dockerfile.Lint, m *dockerfile.Meta, s *stage, missing []string) {
	if s.image != nil && s.image.unknown {
		return // the base image may set them
	}
	for _, name := range missing {
		declared := slices.ContainsFunc(s.args, func(a dockerfile.ArgPair) bool { return a.Key == name })
		if !declared && !strings.HasPrefix(name, "BUILDKIT_SBOM_SCAN_") {
			lint.UndefinedVar(m, name, s.env.Keys())
		}
	}
}
