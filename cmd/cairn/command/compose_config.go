package command

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/bake/compose"
)

// composeConfig is a run of cairn compose config.
type composeConfig struct {
	*composeCommand
	format  string
	output  string
	quiet   bool
	noEnv   bool
	lists   map[string]*bool // flags that print a list
	refused refusedFlags
}

func newComposeConfig(co *composeCommand) *cobra.Command {
	cc := &composeConfig{composeCommand: co, lists: map[string]*bool{}}
	c := &cobra.Command{
		Use:   "config [flags] [SERVICE...]",
		Short: "Print the Compose files as one in canonical form",
		Long: `Config evaluates the Compose files: it merges them, replaces variables, and prints the
enabled services, or those given with the ones that they depend on. It exits with
status 1 if a file has a mistake.`,
		Example: `  cairn compose config
  cairn compose config --format json web
  cairn compose config --quiet
  cairn compose --profile '*' config --images`,
		ValidArgsFunction: co.completeServices,
	}
	c.RunE = co.action(cc.run)
	f := c.Flags()
	enumFlag(c, &cc.format, "format", "Format the output", "yaml", "json")
	f.StringVarP(&cc.output, "output", "o", "", "Save to `FILE`")
	f.BoolVarP(&cc.quiet, "quiet", "q", false, "Only validate the configuration, don't print anything")
	o := &co.project
	f.BoolVar(&o.NoInterpolate, "no-interpolate", false, "Don't interpolate environment variables")
	f.BoolVar(&o.NoNormalize, "no-normalize", false, "Don't normalize compose model")
	f.BoolVar(&o.NoPaths, "no-path-resolution", false, "Don't resolve file paths")
	f.BoolVar(&o.NoConsistency, "no-consistency", false, "Don't check model consistency")
	f.BoolVar(&cc.noEnv, "no-env-resolution", false, "Don't resolve service env files")
	for _, l := range [][2]string{
		{"services", "service names"}, {"images", "image names"}, {"profiles", "profile names"}, {"volumes", "volume names"},
		{"networks", "network names"}, {"models", "model names"}, {"environment", "environment used for interpolation, as NAME=VALUE"},
	} {
		cc.lists[l[0]] = f.Bool(l[0], false, "Print the "+l[1]+", one per line")
	}
	cc.lists["variables"] = f.Bool("variables", false, "Print model variables and default values")
	cc.refused.add(f, "hash", "the hash marks the containers of docker compose, and cairn has none")
	cc.refused.add(f, "resolve-image-digests", "not supported yet: cairn manifest inspect docker://NAME shows a digest")
	cc.refused.add(f, "lock-image-digests", "not supported yet: cairn manifest inspect docker://NAME shows a digest")
	_ = c.MarkFlagFilename("output")
	return c
}

// run prints the project, or one of the lists.
func (cc *composeConfig) run(ctx context.Context, services []string) error {
	if cc.refused.err != nil {
		return cc.refused.err
	}
	var wanted []string
	for name, on := range cc.lists {
		if *on {
			wanted = append(wanted, name)
		}
	}
	slices.Sort(wanted)
	if len(wanted) > 1 {
		return usagef("--%s and --%s contradict each other", wanted[0], wanted[1])
	}
	cc.project.NoNormalize = cc.project.NoNormalize || cc.project.Compatibility
	if len(wanted) == 1 && wanted[0] == "variables" {
		return cc.printVariables(ctx)
	}
	if cc.project.NoInterpolate {
		return cc.printModel(ctx, wanted)
	}
	project, err := cc.load(ctx)
	if err != nil {
		return err
	}
	if len(wanted) == 0 || wanted[0] == "images" || wanted[0] == "environment" {
		if err := project.Select(services, cc.all); err != nil {
			return err
		}
	}
	switch {
	case len(wanted) > 0:
		return printLines(cc.Stdout, listOf(project, wanted[0]))
	case !cc.noEnv:
		if err := project.ResolveEnvironment(); err != nil {
			return err
		}
	}
	if !cc.project.NoConsistency {
		if err := project.CheckContainerNames(); err != nil {
			return err
		}
	}
	text, err := project.Marshal(cc.format == "json")
	if err != nil {
		return err
	}
	return cc.print(text)
}

// listOf returns the list of a flag.
func listOf(p *compose.Project, name string) []string {
	switch name {
	case "services":
		return p.Services()
	case "images":
		return p.Images()
	case "profiles":
		return p.Profiles()
	case "volumes":
		return p.Volumes()
	case "networks":
		return p.Networks()
	case "models":
		return p.Models()
	}
	return p.Environment()
}

// printModel prints the files as far as they can be evaluated without variables.
func (cc *composeConfig) printModel(ctx context.Context, wanted []string) error {
	model, warnings, err := compose.LoadModel(ctx, cc.project)
	if err != nil {
		return err
	}
	cc.warn(warnings)
	switch {
	case len(wanted) == 0:
		text, err := compose.MarshalModel(model, cc.format == "json")
		if err != nil {
			return err
		}
		return cc.print(text)
	case wanted[0] == "services":
		return printLines(cc.Stdout, compose.ServicesOf(model))
	}
	return usagef("--%s and --no-interpolate contradict each other", wanted[0])
}

// printVariables prints the variables that the files use.
func (cc *composeConfig) printVariables(ctx context.Context) error {
	cc.project.NoInterpolate = true
	model, warnings, err := compose.LoadModel(ctx, cc.project)
	if err != nil {
		return err
	}
	cc.warn(warnings)
	list := compose.Variables(model)
	if cc.format == "json" {
		e := json.NewEncoder(cc.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	w := tabwriter.NewWriter(cc.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tREQUIRED\tDEFAULT VALUE\tALTERNATE VALUE")
	for _, v := range list {
		fmt.Fprintf(w, "%s\t%t\t%s\t%s\n", v.Name, v.Required, v.Default, v.Alternate)
	}
	return w.Flush()
}

// print prints the text, or writes it to --output.
func (cc *composeConfig) print(text []byte) error {
	switch {
	case cc.quiet:
		return nil
	case cc.output != "":
		return writeFile(cc.output, text)
	}
	_, err := cc.Stdout.Write(text)
	return err
}
