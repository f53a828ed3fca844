package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

// lintDefaults warns of FROM lines that are invalid without a --build-arg.
func (s *scope) lintDefaults(globals *env) {
	for i := range s.file.Stages {
		st := &s.file.Stages[i]
		w, err := s.lex.Word(st.Base, globals)
		if err != nil {
			return
		}
		if _, err := reference.Normalize(w.Text); err != nil && w.Text != scratchName {
			s.lint.InvalidDefaultArg(&st.Meta, st.Base)
		}
	}
}

// lintMissing warns of variables in a FROM that no ARG declares.
func (s *scope) lintMissing(lint *dockerfile.Lint, m *dockerfile.Meta, missing []string) {
	if len(missing) == 0 {
		return
	}
	known := append(slices.Sorted(maps.Keys(s.declared)), s.globals.Keys()...)
	for _, name := range missing {
		if !slices.Contains(known, name) {
			lint.UndefinedArgInFrom(m, name, known)
		}
	}
}

func (s *scope) lintPlatform(lint *dockerfile.Lint, st *dockerfile.Stage, w dockerfile.Word) {
	const name = "TARGETPLATFORM"
	target, _ := s.globals.Get(name)
	if len(w.Missing) == 0 && len(w.Set) == 1 && w.Set[0] == name && w.Text == target {
		lint.RedundantPlatform(&st.Meta, st.Platform)
	}
	if len(w.Set) > 0 || len(w.Missing) > 0 {
		return
	}
	// No warning if the stage is named after its platform.
	platform, err := layer.ParsePlatform(w.Text)
	if err == nil && !strings.Contains(st.As, platform.OS) && !strings.Contains(st.As, platform.Architecture) {
		lint.ConstPlatform(&st.Meta, w.Text)
	}
}

func (r *resolver) lintBasePlatform(s *stage) {
	want, have := s.image.platform, s.image.config.Platform
	if want.OS == have.OS && want.Architecture == have.Architecture {
		return
	}
	actual := layer.Platform{OS: have.OS, Architecture: have.Architecture, Variant: have.Variant}
	r.lint.BasePlatform(s.meta, s.baseName, want.Normalized().String(), actual.Normalized().String())
}

// lintUndefined warns of variables without a value that no ARG declares.
func (d *dispatcher) lintUndefined(missing []string) {
	s := d.stage
	if s.image != nil && s.image.unknown {
		return // the base image may set them
	}
	for _, name := range missing {
		declared := slices.ContainsFunc(s.args, func(a dockerfile.ArgPair) bool { return a.Key == name })
		if !declared && !strings.HasPrefix(name, "BUILDKIT_SBOM_SCAN_") {
			d.lint.UndefinedVar(d.command.Info(), name, s.env.Keys())
		}
	}
}
