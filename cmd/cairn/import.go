package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

// imported is what import makes an image of.
type imported struct {
	from    string // file, URL or -
	changes []string
	builder.Options
}

func (a *app) importing() *cobra.Command {
	var r registries
	var in imported
	var p layer.Platform
	c := &cobra.Command{
		Use:   "import [flags] FILE|URL|- [NAME[:TAG]]",
		Short: "Make an image of a tar file with a file system",
		Long: `Import makes an image with one layer of a tar file, compressed or not, that holds a
file system, as cairn export, docker export and debootstrap's users write it.
Owners, modes, links and extended attributes are the archive's. It prints the
image with its digest. With $SOURCE_DATE_EPOCH set, no time in it is later.`,
		Example: `  cairn import root.tar debian:mine
  docker export box | cairn import --change 'CMD ["sh"]' - box:1`,
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usagef("FILE is missing: want FILE|URL|- [NAME[:TAG]]")
			case 1:
				return nil
			case 2:
				return checkArgument(args[1])
			}
			return usagef("unexpected argument %q: want only FILE|URL|- [NAME[:TAG]]", args[2])
		},
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error {
		in.from, in.Tags = args[0], args[1:]
		if p.OS != "" {
			in.Platforms = []layer.Platform{p}
		}
		if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
			in.Args = map[string]string{"SOURCE_DATE_EPOCH": epoch}
		}
		return a.online(r, plainly(true), func(b *builder.Builder) error {
			built, err := a.takeIn(ctx, b, &in)
			if err != nil {
				return cause(ctx, err)
			}
			name := builder.Untagged(built.Image)
			if len(built.Tags) > 0 {
				name = registry.Familiar(built.Tags[0]) + "@" + string(built.Digest())
			}
			_, err = fmt.Fprintln(a.stdout, name)
			return err
		})
	})
	f := c.Flags()
	changeFlag(f, &in.changes)
	boundFlag(f, &r.limits)
	platformFlag(f, &p, "the platform that the files are for, if not this machine's")
	r.flags(f)
	return c
}

// configInstructions are those of which a change may be: docker import's.
var configInstructions = []string{"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}

func changeFlag(f *pflag.FlagSet, to *[]string) {
	usage := "add an `INSTRUCTION` of a Dockerfile to the image's config: " + strings.Join(configInstructions, ", ")
	f.VarP(&parsed{kind: "INSTRUCTION", set: func(s string) error {
		word, _, _ := strings.Cut(strings.TrimSpace(s), " ")
		if !slices.Contains(configInstructions, strings.ToUpper(word)) || strings.ContainsAny(s, "\n\r") {
			return fmt.Errorf("want one line with one of %s", strings.Join(configInstructions, ", "))
		}
		*to = append(*to, s)
		return nil
	}}, "change", "c", usage)
}

// takeIn builds the image: the archive added to nothing, and the changes.
func (a *app) takeIn(ctx context.Context, b *builder.Builder, in *imported) (*builder.Built, error) {
	o, what := in.Options, in.from
	if strings.HasPrefix(in.from, "http://") || strings.HasPrefix(in.from, "https://") {
		o.Context = "-"
	} else {
		path, remove, err := a.archive(ctx, b.Store, in.from)
		if err != nil {
			return nil, err
		}
		defer remove()
		dir, err := b.Store.TempDir("import-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir) // or the store does
		if err := lendArchive(path, dir+"/root.tar"); err != nil {
			return nil, b.Store.Explain("import "+in.from, err)
		}
		o.Context, what = dir, "root.tar"
	}
	text := fmt.Sprintf("FROM scratch\nADD --unpack=true [%q, \"/\"]\n%s\n", what, strings.Join(in.changes, "\n"))
	o.Stdin = strings.NewReader(text)
	if o.Context != "-" {
		o.Dockerfile = "-"
	}
	return b.Build(ctx, o)
}

// lendArchive puts an archive into a folder: as one more name if it can have that
// there, else as a copy. What is no archive is refused.
func lendArchive(path, to string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	head := make([]byte, source.ArchiveHead)
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	if !source.IsArchive(head[:n]) {
		return fmt.Errorf("%s is no tar archive: want one with a file system, as cairn export writes it", path)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil && os.Link(real, to) == nil {
		return nil
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.MultiReader(strings.NewReader(string(head[:n])), in))
	return errors.Join(err, out.Close())
}
