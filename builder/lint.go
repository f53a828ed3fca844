package builder

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/cairn-build/cairn/builder/dockerfile"
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
	p, err := s.open(ctx, t, nil)
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
	p, err := s.open(ctx, t, nil)
	if err != nil {
		return nil, nil, err
	}
	defer p.close()
	out, err := plan.Describe(ctx, p.describeInput())
	return out, p.inputs.File, err
}

// Dockerfile returns the parsed Dockerfile of a target.
func (s *Session) Dockerfile(ctx context.Context, t Target) (*dockerfile.File, error) {
	p, err := s.open(ctx, t, nil)
	if err != nil {
		return nil, err
	}
	p.close()
	return p.inputs.File, nil
}

// describeInput returns the input of a plan that is not built. It continues without
// base images whose registry is unreachable.
func (p *planned) describeInput() plan.Input {
	in := p.input()
	in.Base = func(ctx context.Context, ref string, platform layer.Platform) (layer.Image, error) {
		img, err := p.bases.resolve(ctx, ref, platform)
		if errors.Is(err, registry.ErrUnreachable) {
			p.session.Progress.Warn("continuing without the configuration of %s", reference.Familiar(ref))
			return layer.Image{}, nil
		}
		return img, err
	}
	return in
}
