package command

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/layer"
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
	var verbose bool
	c := &cobra.Command{
		Use:   "df [flags]",
		Short: "Show the size of the store",
		Long: `Df shows the number and the size of the parts of the store: compressed layers, trees
(unpacked layers), directories of RUN --mount=type=cache, and the metadata of steps and
layers. Images share layers, so they have no size of their own here. With --verbose, each
image is listed with the size of its compressed layers, of those that other images have
too, and of those that only this image has. A removal frees the last at most: the build
cache may use them.`,
		Example: "  cairn system df\n  cairn system df --verbose\n  cairn system df --format json",
		Args:    exactArgs(),
	}
	c.RunE = p.action(func(context.Context, []string) error {
		return p.withStore(func(env *environment) error {
			rows, err := usageRows(env.Store)
			if err != nil {
				return err
			}
			if format != "" {
				return writeFormat(p.Stdout, format, rows)
			}
			if verbose {
				all, damaged, err := env.Store.AllImages()
				if err != nil {
					return err
				}
				p.warnDamaged(damaged)
				if err := printSharing(p.Stdout, all); err != nil {
					return err
				}
			}
			return printUsage(p.Stdout, rows)
		})
	})
	c.Flags().StringVar(&format, "format", "", "`FORMAT` of the output: json, or a Go template for each line")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "List the images too, with the sizes of shared and of own layers")
	c.MarkFlagsMutuallyExclusive("format", "verbose")
	return c
}

// usageRows measures the parts of the store.
func usageRows(s *store.Store) ([]usageRow, error) {
	u, err := s.Usage()
	if err != nil {
		return nil, err
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
	return rows, nil
}

func printUsage(out io.Writer, rows []usageRow) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
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
}

// printSharing prints the images with the sizes of their layers. Names of the same image do
// not share its layers with each other.
func printSharing(out io.Writer, all []store.Tagged) error {
	users := map[layer.Digest]map[layer.Digest]bool{} // images by layer
	layersOf := func(t store.Tagged) map[layer.Digest]int64 {
		sizes := map[layer.Digest]int64{}
		for _, img := range imagesOf(t) {
			for _, b := range img.Layers {
				sizes[b.Digest] = b.Size
			}
		}
		return sizes
	}
	for _, t := range all {
		for d := range layersOf(t) {
			if users[d] == nil {
				users[d] = map[layer.Digest]bool{}
			}
			users[d][t.Digest()] = true
		}
	}
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE")
	rows, err := imageRows(all, nil, nil)
	if err != nil {
		return err
	}
	for _, row := range rows {
		var shared, own int64
		for d, size := range layersOf(all[slices.IndexFunc(all, func(t store.Tagged) bool { return t.Digest() == row.Digest })]) {
			if len(users[d]) > 1 {
				shared += size
			} else {
				own += size
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s", row.Repository, row.Tag, row.ID.Hex()[:12], ago(row.Created))
		for _, n := range []int64{row.Size, shared, own} {
			fmt.Fprintf(w, "\t%s", units.HumanSize(float64(n)))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	return w.Flush()
}
