package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/storecheck"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/reference"
)

func newCheck(p *Program) *cobra.Command {
	var repair, quiet bool
	c := &cobra.Command{
		Use:   "check [flags]",
		Short: "Verify the integrity of the store",
		Long: `Check reads the whole store and verifies it: blobs against their digests, listings,
records and names of images against their checksums, and unpacked layers file by file.
It prints the damage and exits with status 1 if there is any.

With --repair it removes damaged data, which the next build creates or downloads again;
the status is 1 only if the repair failed. An image that lost a layer needs a build or
a pull. With an unpacked layer, check removes the results of all steps that may have
read its files, and prints the images built on it, which should be built again. Builds
may run at the same time; a build that uses removed data fails.`,
		Example: `  cairn check
  cairn check --repair`,
		Args: exactArgs(),
	}
	c.RunE = p.action(func(ctx context.Context, _ []string) error {
		return p.withRegistries(registryFlags{}, quietMode(quiet), func(env *environment) error {
			r, err := storecheck.Check(ctx, env.Store, env.Progress, repair)
			if err != nil {
				return cause(ctx, err)
			}
			return printDamage(p.Stdout, r)
		})
	})
	c.Flags().BoolVar(&repair, "repair", false, "Remove damaged data")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	return c
}

// printDamage prints a report. It returns an error if damaged data is left.
func printDamage(w io.Writer, r store.CheckReport) error {
	kept, lost := 0, 0
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
				line += fmt.Sprintf(", with the results of %s that may have read it", countSteps(d.Results))
			}
		}
		switch {
		case d.Lost:
			lost++
		case !d.Dropped:
			kept++
		}
		fmt.Fprintln(w, line)
	}
	_, err := fmt.Fprintf(w, "checked %d blobs (%s), %d images, %d layers, %d records, %d trees: %d wrong\n",
		r.Blobs, units.HumanSize(float64(r.Bytes)), r.Images, r.Layers, r.Records, r.Trees, len(r.Wrong))
	switch {
	case err != nil:
		return err
	case kept > 0:
		return errors.New("the store is damaged: repair it with cairn check --repair")
	case lost > 0:
		return errors.New("layers of images are missing: build or pull these images again, or remove them with cairn rm")
	}
	return nil
}

func familiar(refs []string) string {
	names := make([]string, len(refs))
	for i, ref := range refs {
		names[i] = reference.Familiar(ref)
	}
	return strings.Join(names, ", ")
}

func countSteps(n int) string {
	if n == 1 {
		return "1 step"
	}
	return fmt.Sprint(n, " steps")
}
