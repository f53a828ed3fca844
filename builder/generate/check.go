package generate

import (
	"context"
	"errors"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
)

// Check runs the linter of cairn build --check on a Dockerfile for a directory with an
// ignore file. It asks no registry, so nothing is known of base images.
func Check(ctx context.Context, dir, text, ignore string) (warnings []dockerfile.Warning, err error) {
	files, err := source.OpenDir(dir, []byte(ignore), nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	file, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		return nil, err
	}
	return plan.Check(ctx, plan.Input{
		File: file,
		Base: func(context.Context, string, layer.Platform) (layer.Image, error) { return layer.Image{}, nil },
		Ignored: func(path string) bool {
			_, err := files.Lstat(path)
			return errors.As(err, new(*source.IgnoredError))
		},
	})
}
