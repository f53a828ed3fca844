package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/registry"
)

func (a *app) logout() *cobra.Command {
	var r registries
	c := &cobra.Command{
		Use:     "logout [flags] [HOST]",
		Short:   "Log out of a registry",
		Long:    `Logout forgets the password that login has kept. Without HOST the registry is Docker Hub.`,
		Example: `  cairn logout registry.example`,
		Args:    takesUpTo("HOST"),
	}
	c.RunE = a.does(func(_ context.Context, args []string) error {
		host := hostOf(args)
		if err := registry.Logout(registry.Options{AuthFile: r.authFile}, host); err != nil {
			return err
		}
		_, err := fmt.Fprintf(a.stdout, "logged out of %s\n", host)
		return err
	})
	r.authFlag(c.Flags())
	return c
}
