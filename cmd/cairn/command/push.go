package command

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
)

func newPush(p *Program) *cobra.Command {
	var r registryFlags
	var quiet bool
	c := &cobra.Command{
		Use:   "push [flags] IMAGE...",
		Short: "Push images to their registries",
		Long: `Push uploads images of the store to the registries in their names, and prints each
with its digest. It skips layers that a registry has already. After an error it goes on
with the next image.`,
		Example: `  cairn push registry.example/me/app:1
  cairn push --insecure-registry registry.lan:5000 registry.lan:5000/app`,
		Args:              imageArgs,
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		if err := checkContentTrust(); err != nil {
			return err
		}
		return p.push(ctx, r, quiet, args)
	})
	r.flags(c.Flags())
	r.historyFlag(c.Flags())
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	return c
}

// push pushes images of the store and prints their digests.
func (p *Program) push(ctx context.Context, r registryFlags, quiet bool, refs []string) error {
	var pushed digestLines
	err := p.withRegistries(r, quietMode(quiet), func(env *environment) error {
		env.Progress.Title("Pushing")
		failed := &builder.PushError{}
		for _, ref := range refs {
			digest, err := env.Push(ctx, ref)
			if err != nil && ctx.Err() != nil {
				return cause(ctx, err)
			}
			if err != nil {
				failed.Errs = append(failed.Errs, err)
				continue
			}
			pushed.add(ref, digest)
		}
		return failed.Err()
	})
	return errors.Join(err, pushed.print(p.Stdout))
}
