package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/registry"
)

func (a *app) completion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	c := &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a script that completes commands in bash, zsh or fish",
		Example: `  source <(cairn completion bash)
  cairn completion zsh > "${fpath[1]}/_cairn"
  cairn completion fish > ~/.config/fish/completions/cairn.fish`,
		ValidArgs:             shells,
		DisableFlagsInUseLine: true,
		Args: func(c *cobra.Command, args []string) error {
			if err := takes("SHELL")(c, args); err != nil {
				return err
			}
			if !slices.Contains(shells, args[0]) {
				return usagef("shell %q: want bash, zsh or fish", args[0])
			}
			return nil
		},
	}
	c.RunE = a.does(func(_ context.Context, args []string) error {
		switch root := c.Root(); args[0] {
		case "bash":
			return root.GenBashCompletionV2(a.stdout, true)
		case "zsh":
			return root.GenZshCompletion(a.stdout)
		default:
			return root.GenFishCompletion(a.stdout, true)
		}
	})
	return c
}

// completeImages completes the first argument with the store's images.
func (a *app) completeImages(_ *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	_ = a.session(func(b *builder.Builder) error {
		all, err := b.Store.Images()
		for _, t := range all {
			if !untagged(t.Ref) {
				names = append(names, registry.Familiar(t.Ref))
			}
		}
		return err
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}
