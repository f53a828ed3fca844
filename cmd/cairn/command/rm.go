package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/registry/reference"
)

func newRm(p *Program) *cobra.Command {
	force := false
	c := &cobra.Command{
		Use:        "rm IMAGE...",
		Aliases:    []string{"rmi"},
		SuggestFor: []string{"remove", "delete", "untag"},
		Short:      "Remove images",
		Long: `Rm removes names of images; an ID stands for all names of its image. Prune removes
the data of images that have no name left.`,
		Example: `  cairn rm app:old
  cairn rm -f $(cairn images -q)`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && force {
				return nil
			}
			if len(args) == 0 {
				return usagef("IMAGE is missing: with --force, a list that may be empty is no error")
			}
			return imageArgs(c, args)
		},
		ValidArgsFunction: p.completeImages,
		RunE: p.action(func(_ context.Context, args []string) error {
			return p.withStore(func(env *environment) error {
				var all error
				for _, ref := range args {
					err := removeImage(p.Stdout, env, ref)
					if force && errors.Is(err, images.ErrNotStored) {
						fmt.Fprintln(p.Stderr, "warning:", err)
						continue
					}
					all = errors.Join(all, err)
				}
				return all
			})
		}),
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "Images that are not in the store are no error, nor is an empty list of images")
	return c
}

// removeImage removes an image and prints the names that it had.
func removeImage(w io.Writer, env *environment, ref string) error {
	names, err := env.Remove(ref)
	for _, name := range names {
		if untagged(name) {
			name = name[len(untaggedPrefix):]
		} else {
			name = reference.Familiar(name)
		}
		if _, writeErr := fmt.Fprintf(w, "removed %s\n", name); err == nil {
			err = writeErr
		}
	}
	return err
}
