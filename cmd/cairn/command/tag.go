package command

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"
)

func newTag(p *Program) *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE NAME[:TAG]",
		Short: "Give an image another name",
		Example: `  cairn tag app registry.example/me/app:1
  cairn tag 3f2a9c1be0d4 app:good`,
		Args: func(c *cobra.Command, args []string) error {
			if err := exactArgs("IMAGE", "NAME")(c, args); err != nil {
				return err
			}
			return cmp.Or(checkImageArg(args[0]), checkReferenceArg(args[1]))
		},
		ValidArgsFunction: p.completeImages,
		RunE: p.action(func(_ context.Context, args []string) error {
			return p.withStore(func(env *environment) error { return env.Tag(args[0], args[1]) })
		}),
	}
}
