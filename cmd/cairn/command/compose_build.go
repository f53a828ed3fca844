package command

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/bake/compose"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/progress"
)

// composeBuild is a run of cairn compose build.
type composeBuild struct {
	*composeCommand
	app     *application
	options compose.BuildOptions
	print   bool
	quiet   bool
	refused refusedFlags
	limited bool // --jobs was given
}

func newComposeBuild(co *composeCommand) *cobra.Command {
	b := &composeBuild{composeCommand: co, app: newApplication(co.Program, "compose build")}
	c := &cobra.Command{
		Use:   "build [flags] [SERVICE...]",
		Short: "Build the images of services",
		Long: `Build builds the images of the enabled services with a build section, or of those
given, and the services that they use as contexts. All are built in one graph: equal
steps run once, and tags are set at the very end, so that a failure moves none.

The store keeps an image under the name of its service, or PROJECT-SERVICE, and its
other tags. With --load the images go to docker, which then runs the services:
docker compose up --no-build. With --push those with a name go to their registries.`,
		Example: `  cairn compose build
  cairn compose build --load && docker compose up --no-build
  cairn compose build --push --build-arg VERSION=2 web
  cairn compose build --print`,
		ValidArgsFunction: co.completeServices,
	}
	c.RunE = co.action(func(ctx context.Context, services []string) error {
		b.app.progressSet, b.limited = c.Flags().Changed("progress"), c.Flags().Changed("jobs")
		return b.run(ctx, services)
	})
	b.targetFlags(c)
	f := c.Flags()
	f.BoolVar(&b.print, "print", false, "Print equivalent bake file")
	f.BoolVarP(&b.quiet, "quiet", "q", false, "Suppress the build output")
	b.app.engine = ""
	loadFlag(f, &b.app.engine)
	f.Lookup("load").Usage = "Load the images into Docker, Podman or containerd"
	b.app.buildFlags(c)
	b.app.session.LinkTags = true
	f.Lookup("link-tags").DefValue = "true"
	b.refused.add(f, "builder", "cairn builds by itself and has no builder instances")
	for _, name := range []string{"compress", "force-rm", "no-rm"} { // deprecated by docker compose, without effect there
		f.Bool(name, false, "Ignored, as by docker compose")
		_ = f.MarkHidden(name)
	}
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

// run builds the targets, or prints them.
func (b *composeBuild) run(ctx context.Context, services []string) error {
	if b.refused.err != nil {
		return b.refused.err
	}
	b.options.Load = b.app.engine != ""
	selection, project, err := b.selection(ctx, services)
	switch {
	case err != nil:
		return err
	case b.print:
		return writeJSON(b.Stdout, selection)
	case len(selection.Targets) == 0:
		return nil
	}
	if b.quiet {
		b.app.progress, b.app.progressSet = string(progress.Quiet), true
	}
	if err := b.limitJobs(project); err != nil {
		return err
	}
	b.app.sources = project.Files()
	if err := setSecrets(project, selection); err != nil {
		return err
	}
	b.app.allow = option.Entitlements() // the project may use those that it asks for, as with docker compose
	return b.app.build(ctx, selection)
}

// limitJobs applies the variable for the number of parallel builds.
func (b *composeBuild) limitJobs(project *compose.Project) error {
	const name = "COMPOSE_PARALLEL_LIMIT"
	text, ok := project.Lookup(name)
	if !ok || text == "" || b.limited {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return usagef("$%s: invalid value %q: want a number", name, text)
	}
	if n > 0 {
		b.app.session.Jobs = n
	}
	return nil
}

// setSecrets sets the variables of secrets that only files of variables have.
func setSecrets(project *compose.Project, selection *bake.Selection) error {
	for _, t := range slices.AppendSeq(selection.Others(), maps.Values(selection.Targets)) {
		for _, s := range t.Secrets {
			value, ok := project.Lookup(s.Env)
			if _, set := os.LookupEnv(s.Env); s.Env == "" || set || !ok {
				continue
			}
			if err := os.Setenv(s.Env, value); err != nil {
				return err
			}
		}
	}
	return nil
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
	if len(d.Group("default").Targets) == 0 {
		b.warn([]string{"no services to build"})
	}
	for _, w := range d.Warnings {
		b.warn([]string{w.Error()})
	}
	selection, err := d.Select(bake.SelectOptions{Lookup: project.Lookup, LookupArg: project.Lookup})
	return selection, project, err
}
