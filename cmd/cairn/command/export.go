package command

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder/debug"
	"github.com/cairn-build/cairn/layer"
)

// exportCommand is a run of cairn export.
type exportCommand struct {
	*Program
	registries registryFlags
	file       string
	platform   layer.Platform
	failed     bool
}

func newExport(p *Program) *cobra.Command {
	e := &exportCommand{Program: p}
	c := &cobra.Command{
		Use:   "export [flags] IMAGE",
		Short: "Export the filesystem of an image as a tar archive",
		Long: `Export writes the filesystem of an image of the store as a tar archive, without
layers, history and config, like cairn build -o type=tar. The same image gives the same
bytes. To write the image itself, use cairn save.`,
		Example: `  cairn export -o root.tar app
  cairn export app | tar -t`,
		Args: func(c *cobra.Command, args []string) error {
			if err := exactArgs("IMAGE")(c, args); err != nil || e.failed {
				return err
			}
			return checkImageArg(args[0])
		},
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error { return e.run(ctx, args[0]) })
	f := c.Flags()
	f.StringVarP(&e.file, "output", "o", "-", "Write to a `FILE`; - is standard output")
	inputLimitFlag(f, &e.registries.limits)
	platformFlag(f, &e.platform, "Export the image for this platform of an index (default: this machine's)")
	f.BoolVar(&e.failed, "failed", false, "Export the tree of a failed step that cairn build --keep-failed has kept; the argument is its ID in cairn debug")
	e.registries.flags(f)
	_ = c.MarkFlagFilename("output")
	return c
}

func (e *exportCommand) run(ctx context.Context, image string) error {
	if e.file == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
		return usagef("refusing to write an archive to a terminal: specify a file with -o, or redirect standard output")
	}
	return e.withRegistries(e.registries, quietMode(true), func(env *environment) error {
		if e.failed {
			t, err := debug.Find(env.Store, image)
			if err != nil {
				return err
			}
			k, err := debug.Describe(t.Image)
			if err != nil {
				return err
			}
			tree, _, err := k.Trees(t.Image)
			if err != nil {
				return err
			}
			return cause(ctx, env.ExportImage(ctx, tree, "", e.file, os.Stdout))
		}
		return cause(ctx, env.Export(ctx, image, e.platform, e.file, os.Stdout))
	})
}
