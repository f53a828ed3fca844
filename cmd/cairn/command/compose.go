package command

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder/bake/compose"
	"github.com/cairn-build/cairn/builder/progress/termtext"
)

// composeCommand has the flags of all commands of cairn compose.
type composeCommand struct {
	*Program
	project compose.Options
	all     bool // --all-resources
}

func newCompose(p *Program) *cobra.Command {
	co := &composeCommand{Program: p}
	c := &cobra.Command{
		Use:   "compose",
		Short: "Build and push the images of Compose files",
		Long: `Compose reads Compose files as docker compose does: compose.yaml and its override file
in this directory or the nearest parent, or those of --file or $COMPOSE_FILE, with
their profiles, includes, extensions and variables.

It runs no services: docker compose does, with the images that compose build --load
hands to the engine.`,
		Example: `  cairn compose build
  cairn compose build --load && docker compose up --no-build
  cairn compose -f compose.yaml -f compose.ci.yaml config --images
  cairn compose --profile debug config --services`,
		Args:                       subcommandArg,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
		SuggestionsMinimumDistance: 2,
	}
	co.flags(c.PersistentFlags())
	for _, name := range []string{"file", "env-file"} {
		_ = c.MarkPersistentFlagFilename(name)
	}
	_ = c.MarkPersistentFlagDirname("project-directory")
	c.AddCommand(newComposeBuild(co), newComposePush(co), newComposeConfig(co))
	for _, name := range engineCommands() {
		c.AddCommand(newEngineCommand(p, name))
	}
	return c
}

func (co *composeCommand) flags(f *pflag.FlagSet) {
	o := &co.project
	plain := func(s string) (string, error) { return s, nil }
	listFlag(f, &o.Files, "file", "f", "FILE", "Compose configuration files; - is standard input (default $COMPOSE_FILE, or compose.yaml and its override file)", plain)
	f.StringVarP(&o.Name, "project-name", "p", "", "Project `NAME` (default $COMPOSE_PROJECT_NAME, or the name in the files, or that of the project directory)")
	listFlag(f, &o.Profiles, "profile", "", "NAME", "Specify a profile to enable; * enables all (default $COMPOSE_PROFILES)", plain)
	listFlag(f, &o.EnvFiles, "env-file", "", "FILE", "Specify an alternate environment file (default $COMPOSE_ENV_FILES, or .env)", plain)
	f.StringVar(&o.ProjectDir, "project-directory", "", "`DIR` for relative paths (default: that of the first Compose file)")
	f.BoolVar(&o.Compatibility, "compatibility", false, "Separate the names of project and service by _ in image names")
	f.BoolVar(&co.all, "all-resources", false, "Include all resources, even those not used by services")
	f.StringVar(&o.ProjectDir, "workdir", "", "`DIR` of --project-directory")
	for name, usage := range map[string]string{"ansi": "Ignored: docker compose's output", "parallel": "Ignored: use --jobs"} {
		f.String(name, "", usage)
	}
	for _, name := range []string{"workdir", "ansi", "parallel"} {
		_ = f.MarkHidden(name)
	}
}

// engineCommands lists docker compose's commands for running services.
func engineCommands() []string {
	return []string{
		"attach", "commit", "cp", "create", "down", "events", "exec", "export", "images", "kill", "logs", "ls", "pause", "port", "ps", "pull", "restart", "rm", "run", "scale",
		"start", "stats", "stop", "top", "unpause", "up", "volumes", "wait", "watch",
	}
}

// newEngineCommand returns a hidden command that names docker compose's.
func newEngineCommand(p *Program, name string) *cobra.Command {
	command := "docker compose " + name
	switch name {
	case "up", "create":
		command = "cairn compose build --load && " + command + " --no-build"
	case "run":
		command = "cairn compose build --load && " + command
	}
	return p.newReplaced(name, "compose "+name, "cairn runs no services: use "+command)
}

// warn prints warnings.
func (co *composeCommand) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(co.Stderr, "warning: %s\n", termtext.Safe(w))
	}
}

// load evaluates the Compose files.
func (co *composeCommand) load(ctx context.Context) (*compose.Project, error) {
	project, err := compose.Load(ctx, co.project)
	if err != nil {
		return nil, err
	}
	co.warn(project.Warnings)
	return project, nil
}

// completeServices completes the names of services.
func (co *composeCommand) completeServices(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	project, err := compose.Load(c.Context(), co.project)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.DeleteFunc(project.Services(), func(s string) bool { return slices.Contains(args, s) }), cobra.ShellCompDirectiveNoFileComp
}

// refusedFlags are flags of docker compose that cairn does not support. Each value is
// refused with a reason.
type refusedFlags struct{ err error }

// add adds a flag, which is not shown in the help.
func (r *refusedFlags) add(f *pflag.FlagSet, name, reason string) {
	parsedFlag(f, name, "", "", reason, func(string) error {
		if r.err == nil {
			r.err = usagef("--%s: %s", name, reason)
		}
		return nil
	})
	f.Lookup(name).NoOptDefVal = "true"
	f.Lookup(name).Hidden = true
}

// printLines prints one item a line.
func printLines(w io.Writer, list []string) error {
	for _, item := range list {
		if _, err := fmt.Fprintln(w, item); err != nil {
			return err
		}
	}
	return nil
}
