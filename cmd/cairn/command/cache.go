package command

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/cache"
)

// cachedStep is a result in the output of cairn cache. Its fields are those of
// --format.
type cachedStep struct {
	Key     string    `json:"key"`
	Step    string    `json:"step"`
	Size    int64     `json:"size"` // of the compressed layer
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
}

func newCache(p *Program) *cobra.Command {
	var explain bool
	var format string
	c := &cobra.Command{
		Use:   "cache [flags] [STEP]",
		Short: "List the build cache, or explain cache misses",
		Long: `Cache lists the cached results of steps, the most recently used first. SIZE is the
size of the step's layer in the store, compressed. STEP selects results by a part of the
step's name or the beginning of a key.

With --explain it shows why each step ran when it last ran: how it differed from the
cached results. Cairn prune removes results.`,
		Example: `  cairn cache
  cairn cache --explain
  cairn cache --explain 'RUN make'`,
		Args: optionalArg("STEP"),
	}
	c.RunE = p.action(func(_ context.Context, args []string) error {
		filter := ""
		if len(args) > 0 {
			filter = args[0]
		}
		return p.withStore(func(env *environment) error {
			if explain {
				return explainCache(p.Stdout, env, filter)
			}
			all, err := cache.New(env.Store).List()
			if err != nil {
				return err
			}
			steps := cachedSteps(all, filter)
			if format != "" {
				return writeFormat(p.Stdout, format, steps)
			}
			return printCache(p.Stdout, steps)
		})
	})
	c.Flags().BoolVar(&explain, "explain", false, "Show why each step ran when it last ran")
	c.Flags().StringVar(&format, "format", "", "`FORMAT` of the output: json, or a Go template for each result")
	c.MarkFlagsMutuallyExclusive("explain", "format")
	return c
}

func cachedSteps(all []cache.Entry, filter string) []cachedStep {
	out := []cachedStep{}
	for _, e := range all {
		if e.Matches(filter) {
			out = append(out, cachedStep{e.Key, e.Name, e.Size, time.Unix(0, e.Created).UTC(), e.Used.UTC()})
		}
	}
	return out
}

func printCache(w io.Writer, steps []cachedStep) error {
	tab := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(tab, "KEY\tSIZE\tUSED\tSTEP")
	var total int64
	for _, s := range steps {
		total += s.Size
		fmt.Fprintf(tab, "%.12s\t%s\t%s ago\t%s\n", s.Key, units.HumanSize(float64(s.Size)), units.HumanDuration(time.Since(s.Used)), s.Step)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	noun := "results"
	if len(steps) == 1 {
		noun = "result"
	}
	_, err := fmt.Fprintf(w, "%d %s, %s of layers\n", len(steps), noun, units.HumanSize(float64(total)))
	return err
}

func explainCache(w io.Writer, env *environment, filter string) error {
	reasons, err := cache.New(env.Store).Explain(filter)
	if err != nil {
		return err
	}
	if len(reasons) == 0 && filter != "" {
		return fmt.Errorf("no cached step matches %q: list them with cairn cache", filter)
	}
	for _, r := range reasons {
		fmt.Fprintf(w, "%s\n", r.Step.Name)
		for _, why := range r.Why {
			if _, err := fmt.Fprintf(w, "  %s\n", why); err != nil {
				return err
			}
		}
	}
	return nil
}
