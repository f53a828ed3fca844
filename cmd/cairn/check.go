package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
)

func (a *app) check() *cobra.Command {
	var repair, quiet bool
	c := &cobra.Command{
		Use:   "check [flags]",
		Short: "Verify all that is in the store",
		Long: `Check reads everything in the store and verifies it: blobs against their digests,
indexes, records and names of images against their checksums and what they must
say, unpacked layers file by file, which nothing else does. It prints what is wrong, and
then ends with status 1.

With --repair what is wrong is dropped, so that the next build makes or fetches it
anew; the status is 1 only if that did not work. An image that lost a layer needs a
build or a pull. With an unpacked layer go the results of all steps that may have read
its files; images that go on from it are named, and should be built again. Builds may
go on meanwhile; one that uses what is dropped fails.`,
		Example: `  cairn check
  cairn check --repair`,
		Args: takes(),
	}
	c.RunE = a.does(func(ctx context.Context, _ []string) error {
		return a.online(registries{}, plainly(quiet), func(b *builder.Builder) error {
			r, err := b.Verify(ctx, repair)
			if err != nil {
				return cause(ctx, err)
			}
			return a.verified(r)
		})
	})
	c.Flags().BoolVar(&repair, "repair", false, "drop what is wrong, so that it is made or fetched anew")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	return c
}

// verified prints what was found.
func (a *app) verified(r store.CheckReport) error {
	kept := 0
	for _, d := range r.Wrong {
		line := d.What + ": " + d.Why
		if len(d.Images) > 0 {
			line += "; needed by " + familiar(d.Images)
		}
		if len(d.Above) > 0 {
			line += "; built on it: " + familiar(d.Above) + " (build again after a repair)"
		}
		if d.Dropped {
			line += "; dropped"
			if d.Results > 0 {
				line += fmt.Sprintf(", with the results of %s that may have read it", steps(d.Results))
			}
		} else {
			kept++
		}
		fmt.Fprintln(a.stdout, line)
	}
	_, err := fmt.Fprintf(a.stdout, "checked %d blobs (%s), %d images, %d layers, %d records, %d trees: %d wrong\n",
		r.Blobs, units.HumanSize(float64(r.Bytes)), r.Images, r.Layers, r.Records, r.Trees, len(r.Wrong))
	if err == nil && kept > 0 {
		err = fmt.Errorf("the store is damaged: cairn check --repair drops what is wrong")
	}
	return err
}

func familiar(refs []string) string {
	names := make([]string, len(refs))
	for i, ref := range refs {
		names[i] = registry.Familiar(ref)
	}
	return strings.Join(names, ", ")
}

func steps(n int) string {
	if n == 1 {
		return "1 step"
	}
	return fmt.Sprint(n, " steps")
}
