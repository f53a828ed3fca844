package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer"
)

func (a *app) pull() *cobra.Command {
	var r registries
	var quiet bool
	var p layer.Platform
	c := &cobra.Command{
		Use:   "pull [flags] IMAGE...",
		Short: "Pull images from their registries",
		Long:  `Pull fetches images with all their layers into the store, and prints each with its digest.`,
		Example: `  cairn pull debian:12
  cairn pull --platform linux/arm64 debian:12`,
		Args: takesSome("IMAGE"),
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error {
		return a.online(r, plainly(quiet), func(b *builder.Builder) error {
			return a.forEach(ctx, args, func(ctx context.Context, ref string) (layer.Digest, error) {
				return b.Pull(ctx, ref, p)
			})
		})
	})
	r.flags(c.Flags())
	platformFlag(c.Flags(), &p, "pull the image for another platform than this machine's")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	return c
}
