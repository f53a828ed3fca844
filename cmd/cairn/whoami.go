package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/registry"
)

func (a *app) whoami() *cobra.Command {
	var r registries
	c := &cobra.Command{
		Use:   "whoami [flags] [HOST[/REPOSITORY]]",
		Short: "Say who you are to a registry",
		Long: `Whoami looks for credentials as push and pull do, asks the registry whether it takes
them, and says whose they are and where they were found. Without HOST the
registry is Docker Hub.`,
		Example: `  cairn whoami registry.example
  cairn whoami registry.example/team/app`,
		Args: takesUpTo("HOST"),
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error {
		o, err := r.options()
		if err != nil {
			return err
		}
		account, err := registry.WhoAmI(ctx, o, hostOf(args))
		if err != nil {
			return cause(ctx, err)
		}
		text := account.User
		if text == "" {
			text = "a token"
		}
		text += ", from " + account.Source
		if !account.Asked {
			text += " (the registry lets in everybody, and has not looked)"
		}
		_, err = fmt.Fprintln(a.stdout, text)
		return err
	})
	r.insecureFlag(c.Flags())
	r.certFlags(c.Flags())
	r.authFlag(c.Flags())
	return c
}
