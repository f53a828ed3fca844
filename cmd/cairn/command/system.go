package command

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/layer/store"
)

// newSystem returns docker's commands for the disk usage of the store.
func newSystem(p *Program) *cobra.Command {
	c := &cobra.Command{
		Use:                        "system",
		Short:                      "Show and reduce the size of the store",
		Example:                    "  cairn system df\n  cairn system prune --all --force",
		Args:                       subcommandArg,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
		SuggestionsMinimumDistance: 2,
	}
	prune := newPrune(p)
	prune.Example = "  cairn system prune\n  cairn system prune --all --force"
	prune.Flags().Bool("volumes", false, "No effect, for compatibility with docker system prune: there are no volumes")
	c.AddCommand(newSystemDf(p), prune)
	return c
}

// usageRow is a kind of data in the output of cairn system df. Its fields are those of
// --format.
type usageRow struct {
	Type  string `json:"type"`
	Count int    `json:"count"`
	Size  int64  `json:"size"` // in bytes on disk
}

func newSystemDf(p *Program) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "df [flags]",
		Short: "Show the size of the store",
		Long: `Df shows the number and the size of the parts of the store: compressed layers, trees
(unpacked layers), directories of RUN --mount=type=cache, and the metadata of steps and
layers. Images share layers, so they have no size of their own here; cairn images has
the size of each.`,
		Example: "  cairn system df\n  cairn system df --format json",
		Args:    exactArgs(),
	}
	c.RunE = p.action(func(context.Context, []string) error {
		return p.withStore(func(env *environment) error {
			u, err := env.Store.Usage()
			if err != nil {
				return err
			}
			rows := []usageRow{
				{"Images", u.Images, 0},
				{"Layers (compressed)", u.Blobs.Count, u.Blobs.Bytes},
				{"Trees (unpacked)", u.Trees.Count, u.Trees.Bytes},
				{"Cache mounts", u.Caches.Count, u.Caches.Bytes},
				{"Metadata", 0, 0},
				{"Temporary files", u.Temp.Count, u.Temp.Bytes},
			}
			for _, part := range []store.Amount{u.Records, u.Indexes, u.Layers, u.Hints, u.Pins, u.Builds} {
				rows[4].Count += part.Count
				rows[4].Size += part.Bytes
			}
			if format != "" {
				return writeFormat(p.Stdout, format, rows)
			}
			w := tabwriter.NewWriter(p.Stdout, 0, 8, 3, ' ', 0)
			fmt.Fprintln(w, "TYPE\tCOUNT\tSIZE")
			var total int64
			for _, r := range rows {
				size := units.HumanSize(float64(r.Size))
				if total += r.Size; r.Type == "Images" {
					size = "-"
				}
				fmt.Fprintf(w, "%s\t%d\t%s\n", r.Type, r.Count, size)
			}
			fmt.Fprintf(w, "Total\t\t%s\n", units.HumanSize(float64(total)))
			return w.Flush()
		})
	})
	c.Flags().StringVar(&format, "format", "", "`FORMAT` of the output: json, or a Go template for each line")
	return c
}
