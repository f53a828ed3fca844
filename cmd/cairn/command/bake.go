package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/bake/hcl"
	"github.com/cairn-build/cairn/layer"
)

// bakeCommand is a run of cairn bake.
type bakeCommand struct {
	*Program
	files     []string
	overrides []string // of --set and of the flags that stand for one
	vars      map[string]string
	print     bool
	list      string
}

func newBake(p *Program) *cobra.Command {
	b := &bakeCommand{Program: p, vars: map[string]string{}}
	c := &cobra.Command{
		Use:   "bake [flags] [TARGET...]",
		Short: "Show the targets of an application, from docker-bake.hcl",
		Long: `Bake reads the targets of an application from docker-bake.hcl and docker-bake.json,
their .override files, or the files of --file. TARGET is a target or a group, or a
pattern such as app-*; the default is the group or target called default.

With --print, bake writes the options of the targets after inheritance, variables and
--set as JSON, the same as docker buildx bake --print. With --list, it lists all targets
or variables.`,
		Example: `  cairn bake --print
  cairn bake --print -f docker-bake.hcl --var TAG=v1 --set '*.platform=linux/arm64' app
  cairn bake --list=targets
  cairn bake --list=type=variables,format=json`,
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error { return b.run(ctx, args) })
	b.definitionFlags(c)
	return c
}

// definitionFlags adds the flags for the definition and its values.
func (b *bakeCommand) definitionFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVarP(&b.files, "file", "f", nil, "`FILE` with targets; - is standard input (default: all of "+strings.Join(bake.DefaultFiles(), ", ")+" that exist)")
	f.StringArrayVar(&b.overrides, "set", nil, "Override a value of targets: `PATTERN.KEY[+]=VALUE`, such as *.platform=linux/arm64 or app.args.VERSION=2")
	mapFlag(f, b.vars, "var", "Set a variable of the definition", parseBakeVar)
	f.BoolVar(&b.print, "print", false, "Print the options of the targets as JSON, without building")
	parsedFlag(f, "list", "", "targets|variables[,format=json]", "List all targets or variables", func(s string) (err error) {
		b.list = s
		_, err = parseBakeList(s)
		return err
	})
	_ = c.MarkFlagFilename("file", "hcl", "json")
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

func (b *bakeCommand) run(_ context.Context, names []string) error {
	d, err := b.load()
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
	if !b.print {
		return &UsageError{errors.New("bake only shows targets: add --print or --list")}
	}
	b.warn(d)
	selection, err := d.Select(b.selectOptions(names))
	if err != nil {
		return err
	}
	return writeJSON(b.Stdout, selection)
}

// languages are the languages of definitions. A file belongs to the first that accepts
// it.
func (b *bakeCommand) languages() []bake.Language { return []bake.Language{hcl.Language{}} }

// load reads and evaluates the files of the definition.
func (b *bakeCommand) load() (*bake.Definition, error) {
	names, err := b.fileNames()
	if err != nil {
		return nil, err
	}
	files, err := bake.ReadFiles(names, b.Stdin)
	if err != nil {
		return nil, err
	}
	o, err := b.readOptions()
	if err != nil {
		return nil, err
	}
	return bake.Load(files, b.languages(), o)
}

// fileNames returns the files of the flags, or of $BUILDX_BAKE_FILE.
func (b *bakeCommand) fileNames() (names []string, err error) {
	if len(b.files) > 0 {
		for _, name := range b.files {
			names = append(names, strings.TrimPrefix(name, bake.WorkingDir))
		}
		return names, nil
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
	return names, nil
}

func (b *bakeCommand) readOptions() (bake.ReadOptions, error) {
	o := bake.ReadOptions{
		Vars:   b.vars,
		Lookup: bakeLookup,
		Builtins: map[string]string{
			"BAKE_CMD_CONTEXT":    bake.WorkingDir,
			"BAKE_LOCAL_PLATFORM": layer.HostPlatform().String(),
		},
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
	o := bake.SelectOptions{Names: names, Overrides: b.overrides, Lookup: os.LookupEnv}
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
}
