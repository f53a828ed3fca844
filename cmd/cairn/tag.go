package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
)

func (a *app) tag() *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE NAME[:TAG]",
		Short: "Give an image one more name",
		Example: `  cairn tag app registry.example/me/app:1
  cairn tag 3f2a9c1be0d4 app:good`,
		Args:              takes("IMAGE", "NAME"),
		ValidArgsFunction: a.completeImages,
		RunE: a.does(func(_ context.Context, args []string) error {
			return a.session(func(b *builder.Builder) error { return b.Tag(args[0], args[1]) })
		}),
	}
}
