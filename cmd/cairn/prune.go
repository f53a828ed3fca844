package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/layer/store"
)

func (a *app) prune() *cobra.Command {
	var force bool
	var o store.PruneOptions
	c := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove what the store no longer needs",
		Long: `Prune removes what no image of the store needs and what was not used for a week;
with --all also what was used since: every result that later builds could have
taken, and the folders of RUN --mount=type=cache. With --keep-storage it removes of
all that, folders too, what was used longest ago, until the rest has that size.
Images stay, and what running builds use.`,
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
			if ok, err := a.sure(ctx, o); !ok || err != nil {
				return err
			}
		}
		return a.session(func(b *builder.Builder) error {
			cgroup.Sweep()
			r, err := b.Store.Prune(o)
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
	eachVar(c.Flags(), "filter", "", "until=AGE", "remove what was not used for AGE, as in 48h", func(s string) (err error) {
		o.Before, err = until(s, time.Now())
		return err
	})
	eachVar(c.Flags(), "keep-storage", "", "SIZE", "leave SIZE of what no image needs, as in 20GB", func(s string) (err error) {
		if o.Keep, err = size(s); err != nil {
			return fmt.Errorf("%w; --all instead leaves nothing that no image needs", err)
		}
		return nil
	})
	c.Flags().BoolVarP(&o.All, "all", "a", false, "remove all that no image needs, however fresh")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.MarkFlagsMutuallyExclusive("all", "filter")
	c.MarkFlagsMutuallyExclusive("all", "keep-storage")
	return c
}

// until reads docker's filter by age.
func until(s string, now time.Time) (time.Time, error) {
	value, ok := strings.CutPrefix(s, "until=")
	if !ok {
		return time.Time{}, errors.New("the only filter is until=AGE, as in until=48h")
	}
	age, err := time.ParseDuration(value)
	if err != nil || age < 0 {
		return time.Time{}, errors.New("want an age, as in until=48h")
	}
	return now.Add(-age), nil
}

// size reads a number of bytes.
func size(s string) (int64, error) {
	n, err := units.FromHumanSize(s)
	if err != nil || n <= 0 {
		return 0, errors.New("want a size, as in 20GB")
	}
	return n, nil
}

// sure asks on the terminal.
func (a *app) sure(ctx context.Context, o store.PruneOptions) (bool, error) {
	if !term.IsTerminal(int(a.stdin.Fd())) {
		return false, usagef("standard input is no terminal to ask on: add --force")
	}
	what := "what no image needs and was not used for a week"
	switch {
	case o.Keep > 0 || !o.Before.IsZero():
		what = "what no image needs, as far as these flags say"
	case o.All:
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
