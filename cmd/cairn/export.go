package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer"
)

func (a *app) export() *cobra.Command {
	var r registries
	var file string
	var p layer.Platform
	c := &cobra.Command{
		Use:   "export [flags] IMAGE",
		Short: "Write the files of an image to a tar file",
		Long: `Export writes the file system of an image of the store as one tar file, without
its layers, its history and its config: what cairn build -o type=tar writes. The
same image gives the same bytes. To keep the image itself use cairn save.`,
		Example: `  cairn export -o root.tar app
  cairn export app | tar -t`,
		Args:              takes("IMAGE"),
		ValidArgsFunction: a.completeImages,
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error {
		if file == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
			return usagef("an archive is not for a terminal: name a file with -o, or redirect standard output")
		}
		return a.online(r, plainly(true), func(b *builder.Builder) error {
			t, err := b.Tagged(args[0])
			if err != nil {
				return err
			}
			if untagged(t.Ref) {
				return fmt.Errorf("%s has no name: give it one with cairn tag %s NAME", args[0], args[0])
			}
			o := builder.Options{
				Context: "-", Stdin: strings.NewReader("FROM " + t.Ref + "\n"),
				Outputs: []builder.Output{{Type: "tar", Dest: file, Stdout: os.Stdout}},
			}
			if p.OS != "" {
				o.Platforms = []layer.Platform{p}
			}
			_, err = b.Build(ctx, o)
			return cause(ctx, err)
		})
	})
	f := c.Flags()
	f.StringVarP(&file, "output", "o", "-", "write to `FILE`; - is standard output")
	boundFlag(f, &r.limits)
	platformFlag(f, &p, "of an index, export the image for another platform than this machine's")
	r.flags(f)
	_ = c.MarkFlagFilename("output")
	return c
}
