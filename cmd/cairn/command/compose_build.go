package command

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/bake/compose"
)

// composeBuild is a run of cairn compose build.
type composeBuild struct {
	*composeCommand
	options compose.BuildOptions
	print   bool
}

func newComposeBuild(co *composeCommand) *cobra.Command {
	b := &composeBuild{composeCommand: co}
	c := &cobra.Command{
		Use:   "build [flags] [SERVICE...]",
		Short: "Show the targets that the services of Compose files build",
		Long: `Build turns the build sections of services into targets, as docker compose build does
for buildx: the enabled services, or those given, and the services that they use as
contexts.`,
		Example: `  cairn compose build --print
  cairn compose build --print --build-arg VERSION=2 web`,
		ValidArgsFunction: co.completeServices,
	}
	c.RunE = co.action(b.run)
	b.targetFlags(c)
	c.Flags().BoolVar(&b.print, "print", false, "Print equivalent bake file")
	return c
}

// targetFlags adds the flags that change targets.
func (b *composeBuild) targetFlags(c *cobra.Command) {
	f, o := c.Flags(), &b.options
	listFlag(f, &o.Args, "build-arg", "", "NAME[=VALUE]", "Set build-time variables for services; without a VALUE, from the environment", func(s string) (string, error) {
		if name, _, _ := strings.Cut(s, "="); name == "" {
			return "", errors.New("want NAME=VALUE or NAME")
		}
		return s, nil
	})
	f.BoolVar(&o.NoCache, "no-cache", false, "Do not use cache when building the image")
	f.BoolVar(&o.Pull, "pull", false, "Always attempt to pull a newer version of the image")
	f.BoolVar(&o.Push, "push", false, "Push the images of services that name one")
	f.BoolVar(&o.WithDependencies, "with-dependencies", false, "Also build dependencies (transitively)")
	f.StringVarP(&o.Memory, "memory", "m", "", "Memory limit of each RUN, a `SIZE` such as 2g")
	listFlag(f, &o.SSH, "ssh", "", "default|ID[=SOCKET|KEY,...]", "SSH agent socket or keys to expose to the build", func(s string) (string, error) {
		if s == "" {
			s = "default"
		}
		return s, nil
	})
	f.StringVar(&o.Provenance, "provenance", "", "Add a provenance `attestation`")
	f.StringVar(&o.SBOM, "sbom", "", "Add a SBOM `attestation`")
	f.BoolVar(&o.Check, "check", false, "Check build configuration")
	for _, name := range []string{"provenance", "sbom"} {
		f.Lookup(name).NoOptDefVal = "true"
	}
}

// run prints the targets.
func (b *composeBuild) run(ctx context.Context, services []string) error {
	if !b.print {
		return usagef("compose build only shows targets: add --print")
	}
	selection, _, err := b.selection(ctx, services)
	if err != nil {
		return err
	}
	return writeJSON(b.Stdout, selection)
}

// selection returns the targets of the services.
func (b *composeBuild) selection(ctx context.Context, services []string) (*bake.Selection, *compose.Project, error) {
	project, err := b.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	b.options.Services = services
	d, err := project.Targets(b.options)
	if err != nil {
		return nil, nil, err
	}
	if len(d.Targets) == 0 {
		b.warn([]string{"no services to build"})
	}
	selection, err := d.Select(bake.SelectOptions{Lookup: project.Lookup, LookupArg: project.Lookup})
	return selection, project, err
}
