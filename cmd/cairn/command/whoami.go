package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/registry/auth"
)

func newWhoami(p *Program) *cobra.Command {
	var r registryFlags
	c := &cobra.Command{
		Use:   "whoami [flags] [HOST[/REPOSITORY]]",
		Short: "Show the credentials used for a registry",
		Long: `Whoami looks for credentials as push and pull do, checks them with the registry,
and prints the user and the source of the credentials. The default HOST is Docker Hub.`,
		Example: `  cairn whoami registry.example
  cairn whoami registry.example/team/app`,
		Args: optionalArg("HOST"),
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		r.noAuth = true // the error names the files that were searched
		o, err := r.options()
		if err != nil {
			return err
		}
		account, err := auth.WhoAmI(ctx, o.Transport, o.Credentials, registryHost(args))
		if err != nil {
			return cause(ctx, err)
		}
		text := account.User
		if text == "" {
			text = "a token"
		}
		text += ", from " + account.Source
		if !account.Asked {
			text += " (not checked: the registry allows anonymous access)"
		}
		_, err = fmt.Fprintln(p.Stdout, text)
		return err
	})
	r.loginFlags(c.Flags())
	return c
}
