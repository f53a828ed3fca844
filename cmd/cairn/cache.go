package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/cache"
)

// cachedStep is a result as cache shows it; its fields are those of --format.
type cachedStep struct {
	Key     string    `json:"key"`
	Step    string    `json:"step"`
	Size    int64     `json:"size"` // of the layer, compressed
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
}

func (a *app) cache() *cobra.Command {
	var explain bool
	var format string
	c := &cobra.Command{
		Use:   "cache [flags] [STEP]",
		Short: "List the results of steps that the store knows",
		Long: `Cache lists what the store knows of steps, what was used last first: a build that
comes to the same step takes its result. SIZE is that of the step's layer as it
is kept, compressed. STEP chooses: a part of a step's name, or the beginning of a
key.

With --explain it tells why each step ran when it ran last: in what it differed
from what was known before. Cairn prune removes results.`,
		Example: `  cairn cache
  cairn cache --explain
  cairn cache --explain 'RUN make'`,
		Args: takesUpTo("STEP"),
	}
	c.RunE = a.does(func(_ context.Context, args []string) error {
		want := ""
		if len(args) > 0 {
			want = args[0]
		}
		return a.session(func(b *builder.Builder) error {
			if explain {
				return a.explainCache(b, want)
			}
			all, err := b.Cached()
			if err != nil {
				return err
			}
			return a.listCache(cachedSteps(all, want), format)
		})
	})
	c.Flags().BoolVar(&explain, "explain", false, "tell why each step ran when it ran last")
	c.Flags().StringVar(&format, "format", "", "`FORMAT`: json, or a Go template for each result")
	c.MarkFlagsMutuallyExclusive("explain", "format")
	return c
}

func cachedSteps(all []cache.Entry, want string) []cachedStep {
	out := []cachedStep{}
	for _, e := range all {
		if e.Matches(want) {
			out = append(out, cachedStep{e.Key, e.Name, e.Size, time.Unix(0, e.Created).UTC(), e.Used.UTC()})
		}
	}
	return out
}

func (a *app) listCache(steps []cachedStep, format string) error {
	if format != "" {
		return a.format(format, steps)
	}
	tab := tabwriter.NewWriter(a.stdout, 0, 8, 3, ' ', 0)
	fmt.Fprintln(tab, "KEY\tSIZE\tUSED\tSTEP")
	var total int64
	for _, s := range steps {
		total += s.Size
		fmt.Fprintf(tab, "%.12s\t%s\t%s ago\t%s\n", s.Key, units.HumanSize(float64(s.Size)), units.HumanDuration(time.Since(s.Used)), s.Step)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%d results, %s of layers\n", len(steps), units.HumanSize(float64(total)))
	return err
}

func (a *app) explainCache(b *builder.Builder, want string) error {
	reasons, err := b.Explain(want)
	if err != nil {
		return err
	}
	if len(reasons) == 0 && want != "" {
		return fmt.Errorf("no step that is known is called %q: cairn cache lists them", want)
	}
	for _, r := range reasons {
		fmt.Fprintf(a.stdout, "%s\n", r.Step.Name)
		for _, why := range r.Why {
			if _, err := fmt.Fprintf(a.stdout, "  %s\n", why); err != nil {
				return err
			}
		}
	}
	return nil
}
