package command

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
)

func newCompletion(p *Program) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	c := &cobra.Command{
		Use:   "completion SHELL",
		Short: "Generate the autocompletion script for bash, zsh or fish",
		Example: `  source <(cairn completion bash)
  cairn completion zsh > "${fpath[1]}/_cairn"
  cairn completion fish > ~/.config/fish/completions/cairn.fish`,
		ValidArgs:             shells,
		DisableFlagsInUseLine: true,
		Args: func(c *cobra.Command, args []string) error {
			if err := exactArgs("SHELL")(c, args); err != nil {
				return err
			}
			if !slices.Contains(shells, args[0]) {
				return usagef("shell %q: want bash, zsh or fish", args[0])
			}
			return nil
		},
	}
	c.RunE = p.action(func(_ context.Context, args []string) error {
		switch root := c.Root(); args[0] {
		case "bash":
			return root.GenBashCompletionV2(p.Stdout, true)
		case "zsh":
			return root.GenZshCompletion(p.Stdout)
		default:
			return root.GenFishCompletion(p.Stdout, true)
		}
	})
	return c
}
