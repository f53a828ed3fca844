package command

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/reference"
)

// composePush is a run of cairn compose push.
type composePush struct {
	*composeCommand
	registries    registryFlags
	quiet         bool
	includeDeps   bool
	ignoreMissing bool
	refused       refusedFlags
}

func newComposePush(co *composeCommand) *cobra.Command {
	cp := &composePush{composeCommand: co}
	c := &cobra.Command{
		Use:   "push [flags] [SERVICE...]",
		Short: "Push the images of services",
		Long: `Push pushes the images of the enabled services, or of those given, from the store to
their registries: those of services with a build section and the name of an image,
with their other tags. It skips other services, and goes on after an error.`,
		Example: `  cairn compose build && cairn compose push
  cairn compose push web`,
		ValidArgsFunction: co.completeServices,
	}
	c.RunE = co.action(cp.run)
	f := c.Flags()
	f.BoolVarP(&cp.quiet, "quiet", "q", false, "Suppress verbose output")
	f.BoolVar(&cp.includeDeps, "include-deps", false, "Also push images of services declared as dependencies")
	f.BoolVar(&cp.ignoreMissing, "ignore-missing", false, "Skip images that the store does not have")
	cp.refused.add(f, "ignore-push-failures", "a failed push is an error; the other images are pushed in any case")
	cp.registries.flags(f)
	cp.registries.historyFlag(f)
	return c
}

func (cp *composePush) run(ctx context.Context, services []string) error {
	if cp.refused.err != nil {
		return cp.refused.err
	}
	if err := checkContentTrust(); err != nil {
		return err
	}
	project, err := cp.load(ctx)
	if err != nil {
		return err
	}
	images, skipped, err := project.Pushable(services, cp.includeDeps)
	if err != nil {
		return err
	}
	for _, s := range skipped {
		cp.warn([]string{s})
	}
	if cp.ignoreMissing {
		if images, err = cp.known(images); err != nil {
			return err
		}
	}
	if len(images) == 0 {
		return nil
	}
	return cp.push(ctx, cp.registries, cp.quiet, images)
}

// known returns the images that the store has.
func (cp *composePush) known(images []string) (list []string, err error) {
	err = cp.withStore(func(env *environment) error {
		all, err := env.Store.Images()
		if err != nil {
			return err
		}
		for _, image := range images {
			full, err := reference.Normalize(image)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(all, func(i store.Tagged) bool { return i.Ref == full }) {
				list = append(list, image)
			} else {
				cp.warn([]string{image + " is not pushed: the store does not have it"})
			}
		}
		return nil
	})
	return list, err
}
