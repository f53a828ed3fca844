package command

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newSave(p *Program) *cobra.Command {
	var r registryFlags
	var file, format string
	c := &cobra.Command{
		Use:   "save [flags] IMAGE...",
		Short: "Save an image to a tar archive, with its names",
		Long: `Save writes an image of the store, with all its layers, as a tar archive for cairn
load, docker load, podman load and ctr images import. The archive can contain several
names of one image.`,
		Example: `  cairn save -o app.tar app
  cairn save app | docker load`,
		Args:              imageArgs,
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		if file == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
			return usagef("refusing to write an image to a terminal: specify a file with -o, or redirect standard output")
		}
		return p.withRegistries(r, quietMode(true), func(env *environment) error {
			return cause(ctx, env.Save(ctx, args, format, file, os.Stdout))
		})
	})
	f := c.Flags()
	f.StringVarP(&file, "output", "o", "-", "Write to a `FILE`; - is standard output")
	enumFlag(c, &format, "format", "Format of the archive", "docker", "oci")
	r.flags(f)
	_ = c.MarkFlagFilename("output")
	return c
}
