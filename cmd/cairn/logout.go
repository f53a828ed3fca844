package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/registry"
)

func (a *app) logout() *cobra.Command {
	return &cobra.Command{
		Use:     "logout [HOST]",
		Short:   "Log out of a registry",
		Long:    `Logout forgets the password that login has kept. Without HOST the registry is Docker Hub.`,
		Example: `  cairn logout registry.example`,
		Args:    takesUpTo("HOST"),
		RunE: a.does(func(_ context.Context, args []string) error {
			host := hostOf(args)
			if err := registry.Logout(registry.Options{}, host); err != nil {
				return err
			}
			_, err := fmt.Fprintf(a.stdout, "logged out of %s\n", host)
			return err
		}),
	}
}
