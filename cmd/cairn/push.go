package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer"
)

func (a *app) push() *cobra.Command {
	var r registries
	var quiet bool
	c := &cobra.Command{
		Use:   "push [flags] IMAGE...",
		Short: "Push images to their registries",
		Long: `Push sends images of the store to the registries that their names say, and prints
each with its digest. What a registry has already is not sent again.`,
		Example: `  cairn push registry.example/me/app:1
  cairn push --insecure-registry registry.lan:5000 registry.lan:5000/app`,
		Args:              takesSome("IMAGE"),
		ValidArgsFunction: a.completeImages,
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error {
		return a.online(r, plainly(quiet), func(b *builder.Builder) error {
			return a.forEach(ctx, args, b.Push)
		})
	})
	r.flags(c.Flags())
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	return c
}

// forEach moves each of some images and prints its name with the digest.
func (a *app) forEach(ctx context.Context, refs []string, move func(context.Context, string) (layer.Digest, error)) error {
	for _, ref := range refs {
		digest, err := move(ctx, ref)
		if err != nil {
			return cause(ctx, err)
		}
		if _, err := fmt.Fprintf(a.stdout, "%s@%s\n", ref, digest); err != nil {
			return err
		}
	}
	return nil
}
