package builder

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/input"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
)

// LintResult is the result of [Session.Lint].
type LintResult struct {
	Name     string // of the Dockerfile
	Text     []byte
	Warnings []dockerfile.Warning
	Err      error // an error in the Dockerfile
}

// Lint checks the Dockerfile of a target: the stages that it needs, or all if it names
// none. Nothing is built. Lint resolves base images, since their environment matters,
// but continues without those whose registry is unreachable. Errors in the Dockerfile
// are part of the result. Warnings that several platforms share are returned once.
func (s *Session) Lint(ctx context.Context, t Target) (*LintResult, error) {
	if len(t.Platforms) < 2 {
		return s.lint(ctx, t)
	}
	var all *LintResult
	for _, p := range t.Platforms {
		t.Platforms = []layer.Platform{p}
		one, err := s.lint(ctx, t)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = one
			continue
		}
		for _, w := range one.Warnings {
			if !slices.ContainsFunc(all.Warnings, func(old dockerfile.Warning) bool { return reflect.DeepEqual(old, w) }) {
				all.Warnings = append(all.Warnings, w)
			}
		}
		if all.Err == nil {
			all.Err = one.Err
		}
	}
	return all, nil
}

// lint checks the Dockerfile for one platform.
func (s *Session) lint(ctx context.Context, t Target) (*LintResult, error) {
	p, err := s.open(ctx, t, t.anyTarget())
	var at *dockerfile.Error
	if errors.As(err, &at) {
		return &LintResult{at.Name, at.Source, at.Warnings, err}, nil
	}
	if err != nil {
		return nil, err
	}
	defer p.close()
	warnings, err := plan.Check(ctx, p.describeInput())
	if err != nil && !errors.As(err, &at) {
		return nil, err
	}
	return &LintResult{p.inputs.File.Name, p.inputs.File.Text, warnings, err}, nil
}

// Outline returns the parameters of a target.
func (s *Session) Outline(ctx context.Context, t Target) (*plan.Outline, *dockerfile.File, error) {
	p, err := s.open(ctx, t, t.anyTarget())
	if err != nil {
		return nil, nil, err
	}
	defer p.close()
	out, err := plan.Describe(ctx, p.describeInput())
	return out, p.inputs.File, err
}

// Dockerfile returns the parsed Dockerfile of a target.
func (s *Session) Dockerfile(ctx context.Context, t Target) (*dockerfile.File, error) {
	p, err := s.open(ctx, t, t.anyTarget())
	if err != nil {
		return nil, err
	}
	p.close()
	return p.inputs.File, nil
}

// anyTarget returns a function that accepts links to all targets, for plans that are not
// built, or nil for a target that is alone.
func (t *Target) anyTarget() func(string) bool {
	if t.Name == "" {
		return nil
	}
	return func(string) bool { return true }
}

// describeInput returns the input of a plan that is not built. It continues without
// base images whose registry is unreachable.
func (p *planned) describeInput() plan.Input {
	in := p.input()
	for name, c := range in.Named {
		if c.Target != "" { // nothing is known of an image that is not built
			in.Named[name] = plan.Named{Image: input.TargetScheme + c.Target}
		}
	}
	in.Base = func(ctx context.Context, ref string, platform layer.Platform) (layer.Image, error) {
		if strings.HasPrefix(ref, input.TargetScheme) {
			return layer.Image{}, nil
		}
		img, err := p.bases.resolve(ctx, ref, platform)
		if errors.Is(err, registry.ErrUnreachable) {
			p.session.Progress.Warn("continuing without the configuration of %s", reference.Familiar(ref))
			return layer.Image{}, nil
		}
		return img, err
	}
	return in
}
