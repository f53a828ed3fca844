package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/bake/compose"
	"github.com/cairn-build/cairn/builder/bake/hcl"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/layer"
)

// bakeCommand is a run of cairn bake.
type bakeCommand struct {
	*application
	files      []string
	overrides  []string // of --set
	attributes []string // overrides of other flags
	vars       map[string]string
	print      bool
	list       string
	graph      string

	commandContext string // value of BAKE_CMD_CONTEXT
	remote         *bake.Remote
}

func newBake(p *Program) *cobra.Command {
	b := &bakeCommand{application: newApplication(p, "bake"), vars: map[string]string{}}
	c := &cobra.Command{
		Use:   "bake [flags] [URL [URL]] [TARGET...]",
		Short: "Build the targets of an application, from docker-bake.hcl",
		Long: `Bake reads the targets of an application from compose.yaml, docker-bake.hcl and
docker-bake.json, docker-bake.override.hcl and .json, or the files of --file. TARGET is
a target, a group, or a pattern such as app-*; the default is the group or target called
default.

All targets are built in one graph: each context is read once, equal steps run once, and
each layer is compressed and pushed once. Tags are set at the very end, in the store
and in registries: if a target fails, no tag moves. With --on-error=continue the targets
that do not need the failed step are finished and tagged.

URL is a git repository, or a file or archive of a web server, to read the definition
from. Relative contexts are in that place then, and those with the prefix cwd:// in the
working directory.

With --print, bake writes the options of the targets after inheritance, variables and
--set as JSON, the same as docker buildx bake --print; with --graph, the steps that
it would run and the targets that share them. With --list, it lists all targets or
variables.`,
		Example: `  cairn bake
  cairn bake --push web api
  cairn bake --set '*.platform=linux/arm64' --metadata-file meta.json
  cairn bake https://git.example/team/app.git#main:deploy web
  cairn bake --changed --on-error=continue
  cairn bake --print --graph=dot | dot -Tsvg > graph.svg
  cairn bake --print
  cairn bake --print -f docker-bake.hcl --var TAG=v1 --set '*.platform=linux/arm64' app
  cairn bake --list=targets
  cairn bake --list=type=variables,format=json`,
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		b.progressSet, b.linkTagsSet = c.Flags().Changed("progress"), c.Flags().Changed("link-tags")
		return b.run(ctx, args)
	})
	b.definitionFlags(c)
	b.attributeFlags(c)
	b.buildFlags(c)
	return c
}

// definitionFlags adds the flags for the definition and its values.
func (b *bakeCommand) definitionFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVarP(&b.files, "file", "f", nil, "`FILE` with targets; - is standard input (default: all of "+strings.Join(bake.DefaultFiles(), ", ")+" that exist)")
	f.StringArrayVar(&b.overrides, "set", nil, "Override a value of targets: `PATTERN.KEY[+]=VALUE`, such as *.platform=linux/arm64 or app.args.VERSION=2")
	mapFlag(f, b.vars, "var", "Set a variable of the definition", parseBakeVar)
	f.BoolVar(&b.print, "print", false, "Print the options of the targets as JSON, without building")
	parsedFlag(f, "graph", "", "text|dot", "Print the steps of the targets without building, as text or for Graphviz", func(s string) error {
		if b.graph = s; s != "text" && s != "dot" {
			return errors.New("want text or dot")
		}
		return nil
	})
	completeFlag(c, "graph", "text", "dot")
	f.Lookup("graph").NoOptDefVal = "text"
	f.BoolVar(&b.onlyChanged, "changed", false, "Build only targets with a step whose result the store does not have")
	parsedFlag(f, "list", "", "targets|variables[,format=json]", "List all targets or variables", func(s string) (err error) {
		b.list = s
		_, err = parseBakeList(s)
		return err
	})
	_ = c.MarkFlagFilename("file", "hcl", "json", "yaml", "yml")
	completeFlag(c, "list", "targets", "variables")
	c.MarkFlagsMutuallyExclusive("print", "list")
}

func parseBakeVar(s string) (name, value string, err error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return "", "", errors.New("want NAME=VALUE")
	}
	return name, value, nil
}

func (b *bakeCommand) run(ctx context.Context, names []string) error {
	b.url, b.commandContext, names = splitArguments(names)
	d, err := b.load(ctx)
	if err != nil {
		return err
	}
	if b.list != "" {
		list, err := parseBakeList(b.list)
		if err != nil {
			return err
		}
		return list.write(b.Stdout, d)
	}
	b.warn(d)
	selection, err := d.Select(b.selectOptions(names))
	switch {
	case err != nil:
		return err
	case b.graph != "":
		return b.printGraph(ctx, selection, b.graph)
	case b.print:
		return writeJSON(b.Stdout, selection)
	}
	return b.build(ctx, selection)
}

// languages are the languages of definitions. A file belongs to the first that accepts
// it.
func (b *bakeCommand) languages() []bake.Language {
	return []bake.Language{compose.Language{}, hcl.Language{}}
}

// load reads and evaluates the files of the definition.
func (b *bakeCommand) load(ctx context.Context) (*bake.Definition, error) {
	files, err := b.readFiles(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Name != "-" {
			b.sources = append(b.sources, f.Name)
		}
	}
	o, err := b.readOptions()
	if err != nil {
		return nil, err
	}
	return bake.Load(files, b.languages(), o)
}

// readFiles reads the files of a remote definition, and those of this machine.
func (b *bakeCommand) readFiles(ctx context.Context) ([]bake.File, error) {
	var remote, local []string
	for _, name := range b.fileNames() {
		if path, ok := strings.CutPrefix(name, bake.WorkingDir); ok || b.url == "" {
			local = append(local, path)
		} else {
			remote = append(remote, name)
		}
	}
	if b.url == "" {
		return bake.ReadFiles(local, b.Stdin)
	}
	files, err := b.readRemote(ctx, remote)
	if err != nil || len(local) == 0 {
		return files, err
	}
	more, err := bake.ReadFiles(local, b.Stdin)
	return append(files, more...), err
}

// fileNames returns the files of the flags, or of $BUILDX_BAKE_FILE.
func (b *bakeCommand) fileNames() (names []string) {
	if len(b.files) > 0 {
		return b.files
	}
	separator := os.Getenv("BUILDX_BAKE_PATH_SEPARATOR")
	if separator == "" {
		separator = string(filepath.ListSeparator)
	}
	for name := range strings.SplitSeq(os.Getenv("BUILDX_BAKE_FILE"), separator) {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func (b *bakeCommand) readOptions() (bake.ReadOptions, error) {
	o := bake.ReadOptions{
		Vars:   b.vars,
		Lookup: bakeLookup,
		Builtins: map[string]string{
			"BAKE_CMD_CONTEXT":    b.commandContext,
			"BAKE_LOCAL_PLATFORM": layer.HostPlatform().String(),
		},
		Remote: b.url != "",
	}
	const name = "BUILDX_BAKE_FILE_RELATIVE_PATHS"
	if text := strings.TrimSpace(os.Getenv(name)); text != "" {
		var err error
		if o.FileRelative, err = strconv.ParseBool(text); err != nil {
			return o, fmt.Errorf("variable %s: invalid value %q: want true or false", name, text)
		}
	}
	return o, nil
}

func (b *bakeCommand) selectOptions(names []string) bake.SelectOptions {
	o := bake.SelectOptions{Names: names, Overrides: slices.Concat(b.overrides, b.attributes), Lookup: os.LookupEnv, Remote: b.remote}
	if bakeEnvironment() {
		o.LookupArg = os.LookupEnv
	}
	return o
}

// bakeEnvironment reports whether variables may come from the environment.
func bakeEnvironment() bool {
	off, err := strconv.ParseBool(os.Getenv("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP"))
	return err != nil || !off
}

func bakeLookup(name string) (string, bool) {
	if !bakeEnvironment() {
		return "", false
	}
	return os.LookupEnv(name)
}

// warn writes the warnings of a definition.
func (b *bakeCommand) warn(d *bake.Definition) {
	for _, w := range d.Warnings {
		fmt.Fprintf(b.Stderr, "warning: %v\n", w)
	}
	if slices.ContainsFunc(b.sources, func(name string) bool { return !strings.HasSuffix(name, ".hcl") && !strings.HasSuffix(name, ".json") }) {
		return // Compose files may use any variable
	}
	known := map[string]bool{}
	var names []string
	for _, v := range d.Variables {
		known[v.Name], known[v.Name+"_JSON"] = true, true
		names = append(names, v.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(b.vars)) {
		if !known[name] {
			fmt.Fprintf(b.Stderr, "warning: %v\n", dockerfile.DidYouMean(fmt.Errorf("--var %s has no effect: the definition has no variable of this name", name), name, names))
		}
	}
}
