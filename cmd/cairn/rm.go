package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/registry"
)

func (a *app) rm() *cobra.Command {
	return &cobra.Command{
		Use:        "rm IMAGE...",
		Aliases:    []string{"rmi"},
		SuggestFor: []string{"remove", "delete", "untag"},
		Short:      "Remove images",
		Long: `Rm takes names from images; an ID stands for all names of its image. What an
image consists of goes with the next prune, unless another name needs it.`,
		Example: `  cairn rm app:old
  cairn rm $(cairn images -q)`,
		Args:              takesSome("IMAGE"),
		ValidArgsFunction: a.completeImages,
		RunE: a.does(func(_ context.Context, args []string) error {
			return a.session(func(b *builder.Builder) error {
				var all error
				for _, ref := range args {
					all = errors.Join(all, a.remove(b, ref))
				}
				return all
			})
		}),
	}
}

func (a *app) remove(b *builder.Builder, ref string) error {
	names, err := b.Remove(ref)
	for _, name := range names {
		if untagged(name) {
			name = name[len(untaggedPrefix):]
		} else {
			name = registry.Familiar(name)
		}
		if _, perr := fmt.Fprintf(a.stdout, "removed %s\n", name); err == nil {
			err = perr
		}
	}
	return err
}
