package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/layer/store"
)

// pruneCommand is a run of cairn prune.
type pruneCommand struct {
	*Program
	options store.PruneOptions
	force   bool
}

func newPrune(p *Program) *cobra.Command {
	r := &pruneCommand{Program: p}
	c := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove unused data from the store",
		Long: `Prune removes data that no image of the store needs and that has not been used for
a week. With --all it removes the recently used build cache as well, including the
directories of RUN --mount=type=cache, the list of past builds and kept failed steps. With --keep-storage it removes the least recently
used data, including these directories, until the rest has that size. It keeps images
and data that running builds use.`,
		Example: `  cairn prune
  cairn prune --all --force`,
		Args: exactArgs(),
		RunE: p.action(func(ctx context.Context, _ []string) error { return r.run(ctx) }),
	}
	f := c.Flags()
	repeatedFlag(f, "filter", "", "until=AGE", "Remove data not used for AGE, such as 48h", func(s string) (err error) {
		r.options.Before, err = parseUntil(s, time.Now())
		return err
	})
	repeatedFlag(f, "keep-storage", "", "SIZE", "Amount of disk space to keep for cache, such as 20GB", func(s string) (err error) {
		if r.options.Keep, err = option.ParseSize(s); err != nil {
			return fmt.Errorf("%w; --all removes all data that no image needs", err)
		}
		return nil
	})
	repeatedFlag(f, "keep-history", "", "AGE", "Keep the images that tags had in the last AGE, such as 48h, for cairn rollback", func(s string) error {
		age, err := time.ParseDuration(s)
		if err != nil || age < 0 {
			return errors.New("want an age, such as 48h")
		}
		r.options.History = time.Now().Add(-age)
		return nil
	})
	f.BoolVarP(&r.options.All, "all", "a", false, "Remove all data that no image needs, also recently used data")
	f.BoolVarP(&r.force, "force", "f", false, "Do not prompt for confirmation")
	c.MarkFlagsMutuallyExclusive("all", "filter")
	c.MarkFlagsMutuallyExclusive("all", "keep-storage")
	return c
}

func (r *pruneCommand) run(ctx context.Context) error {
	if !r.force {
		// This may execute the program again, which must not prompt a second time.
		if _, err := r.enter(); err != nil {
			return err
		}
		if ok, err := r.confirm(ctx); !ok || err != nil {
			return err
		}
	}
	return r.withStore(func(env *environment) error {
		cgroup.Sweep()
		if err := env.Store.ExpireFailed(time.Now(), r.options.All); err != nil {
			return err
		}
		report, err := env.Store.Prune(r.options)
		if err != nil {
			return err
		}
		caches := ""
		if report.Caches > 0 {
			caches = fmt.Sprintf(", %d cache directories", report.Caches)
		}
		_, err = fmt.Fprintf(r.Stdout, "removed %d blobs, %d trees, %d records%s; freed %s\n",
			report.Blobs, report.Trees, report.Records, caches, units.HumanSize(float64(report.Freed)))
		return err
	})
}

// parseUntil parses a value of --filter and returns a time before now.
func parseUntil(s string, now time.Time) (time.Time, error) {
	value, ok := strings.CutPrefix(s, "until=")
	if !ok {
		return time.Time{}, errors.New("the only filter is until=AGE, such as until=48h")
	}
	age, err := time.ParseDuration(value)
	if err != nil || age < 0 {
		return time.Time{}, errors.New("want an age, such as until=48h")
	}
	return now.Add(-age), nil
}

// confirm prompts on the terminal.
func (r *pruneCommand) confirm(ctx context.Context) (bool, error) {
	if !term.IsTerminal(int(r.Stdin.Fd())) {
		return false, usagef("standard input is not a terminal to prompt on: add --force")
	}
	data := "data that no image needs and that was not used for a week"
	switch {
	case r.options.Keep > 0 || !r.options.Before.IsZero():
		data = "data that no image needs, as selected by the flags"
	case r.options.All:
		data = "all data that no image needs, including the build cache"
	}
	return r.Program.confirm(ctx, "remove "+data)
}
