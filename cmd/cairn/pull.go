package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
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
			for _, ref := range args {
				if err := a.pullOne(ctx, b, ref, p); err != nil {
					return cause(ctx, err)
				}
			}
			return nil
		})
	})
	r.flags(c.Flags())
	platformFlag(c.Flags(), &p, "pull the image for another platform than this machine's")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	return c
}

// pullOne prints the image's name as it was given, or what that is short for.
func (a *app) pullOne(ctx context.Context, b *builder.Builder, ref string, p layer.Platform) error {
	name, digest, err := b.Pull(ctx, ref, p)
	if err != nil {
		return err
	}
	if full, err := registry.Normalize(ref); err == nil && full == name {
		name = ref
	}
	_, err = fmt.Fprintf(a.stdout, "%s@%s\n", name, digest)
	return err
}
