package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer/store"
)

func (a *app) prune() *cobra.Command {
	var all, force bool
	c := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove what the store no longer needs",
		Long: `Prune removes what no image of the store needs and what was not used for a week;
with --all also what was used since: every result that later builds could have
taken, and the folders of RUN --mount=type=cache. Images stay, and what running
builds use.`,
		Example: `  cairn prune
  cairn prune --all --force`,
		Args: takes(),
	}
	c.RunE = a.does(func(ctx context.Context, _ []string) error {
		if !force {
			// It starts the program anew, which must not ask a second time.
			if _, err := a.enter(); err != nil {
				return err
			}
			if ok, err := a.sure(ctx, all); !ok || err != nil {
				return err
			}
		}
		return a.session(func(b *builder.Builder) error {
			r, err := b.Store.Prune(store.PruneOptions{All: all})
			if err != nil {
				return err
			}
			caches := ""
			if r.Caches > 0 {
				caches = fmt.Sprintf(", %d cache folders", r.Caches)
			}
			_, err = fmt.Fprintf(a.stdout, "removed %d blobs, %d trees, %d records%s; %s are free again\n",
				r.Blobs, r.Trees, r.Records, caches, units.HumanSize(float64(r.Freed)))
			return err
		})
	})
	c.Flags().BoolVarP(&all, "all", "a", false, "remove all that no image needs, however fresh")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	return c
}

// sure asks on the terminal.
func (a *app) sure(ctx context.Context, all bool) (bool, error) {
	if !term.IsTerminal(int(a.stdin.Fd())) {
		return false, usagef("standard input is no terminal to ask on: add --force")
	}
	what := "what no image needs and was not used for a week"
	if all {
		what = "everything that no image needs, the build cache too"
	}
	fmt.Fprintf(a.stderr, "remove %s? [y/N] ", what)
	answer, err := a.line(ctx)
	if errors.Is(err, io.EOF) {
		return false, nil // the end of input is no yes
	}
	answer = strings.ToLower(answer)
	return answer == "y" || answer == "yes", err
}
