package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/registry/auth"
)

func newLogout(p *Program) *cobra.Command {
	var r registryFlags
	c := &cobra.Command{
		Use:     "logout [flags] [HOST]",
		Short:   "Log out of a registry",
		Long:    `Logout removes the credentials that login stored. The default HOST is Docker Hub.`,
		Example: `  cairn logout registry.example`,
		Args:    optionalArg("HOST"),
	}
	c.RunE = p.action(func(_ context.Context, args []string) error {
		host := registryHost(args)
		if err := auth.Logout(auth.Keychain{AuthFile: r.authFile}, host); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.Stdout, "logged out of %s\n", host)
		return err
	})
	r.authFlag(c.Flags())
	return c
}
