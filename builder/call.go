package builder

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

// Checked is what the linter says of a Dockerfile.
type Checked struct {
	Name     string // of the Dockerfile
	Text     []byte
	Warnings []dockerfile.Warning
	Err      error // what keeps it from being built; nil: nothing that shows yet
}

// Check lints a Dockerfile: the stages that the target needs, or all of them if
// none is named. Nothing is built. Base images are looked up, since what is in
// their environment matters, but need not be there when their registry can't be
// reached. The error is for what is not the Dockerfile's fault.
//
// For several platforms each is looked at; what is wrong for more than one is told
// once.
func (b *Builder) Check(ctx context.Context, o Options) (*Checked, error) {
	if len(o.Platforms) < 2 {
		return b.check(ctx, o)
	}
	var all *Checked
	for _, p := range o.Platforms {
		o.Platforms = []layer.Platform{p}
		one, err := b.check(ctx, o)
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

func (b *Builder) check(ctx context.Context, o Options) (*Checked, error) {
	j, err := b.parse(ctx, o)
	var at *dockerfile.Error
	if errors.As(err, &at) {
		return &Checked{at.Name, at.Source, at.Warnings, err}, nil
	}
	if err != nil {
		return nil, err
	}
	defer j.close()
	warnings, err := plan.Check(ctx, j.describing())
	if err != nil && !errors.As(err, &at) {
		return nil, err
	}
	return &Checked{j.file.Name, j.file.Text, warnings, err}, nil
}

// Outline tells what a target can be given.
func (b *Builder) Outline(ctx context.Context, o Options) (*plan.Outline, *dockerfile.File, error) {
	j, err := b.parse(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	defer j.close()
	out, err := plan.Describe(ctx, j.describing())
	return out, j.file, err
}

// Targets gives the parsed Dockerfile, whose stages can be targets.
func (b *Builder) Targets(ctx context.Context, o Options) (*dockerfile.File, error) {
	j, err := b.parse(ctx, o)
	if err != nil {
		return nil, err
	}
	j.close()
	return j.file, nil
}

// describing is the input of a plan that is not for building: it goes on
// without base images that can't be asked for.
func (j *job) describing() plan.Input {
	in := j.input()
	in.Base = func(ctx context.Context, ref string, p layer.Platform) (layer.Image, error) {
		img, err := j.base(ctx, ref, p)
		if errors.Is(err, registry.ErrUnreachable) {
			j.Progress.Warn("going on without knowing what is in %s", registry.Familiar(ref))
			return layer.Image{}, nil
		}
		return img, err
	}
	return in
}

// Advice is a warning of the linter as displays show it.
func Advice(f *dockerfile.File, w dockerfile.Warning) progress.Warning {
	out := progress.Warning{Level: 1, Short: []byte(w.String()), Detail: [][]byte{[]byte(w.Description)}, URL: w.URL}
	for _, r := range w.Ranges {
		out.Ranges = append(out.Ranges, progress.Span{Start: progress.Place{Line: r.First}, End: progress.Place{Line: r.Last}})
	}
	if len(w.Ranges) > 0 {
		out.Source = &progress.Source{Filename: f.Name, Data: []byte(source.Redact(string(f.Text))), Language: "Dockerfile"}
	}
	return out
}

// frontend is what build arguments say of how to read a Dockerfile.
func (o *Options) frontend() (out dockerfile.Options) {
	if v, ok := o.Args["BUILDKIT_DOCKERFILE_CHECK"]; ok {
		out.Check = &v
	}
	if v, ok := o.Args["BUILDKIT_SYNTAX"]; ok {
		out.Syntax = &v
	}
	return out
}
