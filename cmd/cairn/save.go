package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
)

func (a *app) save() *cobra.Command {
	var r registries
	var file, format string
	c := &cobra.Command{
		Use:   "save [flags] IMAGE...",
		Short: "Write an image to a file",
		Long: `Save writes an image of the store, with all its layers, as one tar file that cairn
load, docker load, podman load and ctr images import read. Several names of
one image go into the same file.`,
		Example: `  cairn save -o app.tar app
  cairn save app | docker load`,
		Args:              takesSome("IMAGE"),
		ValidArgsFunction: a.completeImages,
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error {
		out := builder.Output{Dest: file, Stdout: os.Stdout}
		if file == "-" && term.IsTerminal(int(os.Stdout.Fd())) {
			return usagef("an image is not for a terminal: name a file with -o, or redirect standard output")
		}
		return a.online(r, plainly(true), func(b *builder.Builder) error {
			return cause(ctx, b.Save(ctx, args, format, out))
		})
	})
	f := c.Flags()
	f.StringVarP(&file, "output", "o", "-", "write to `FILE`; - is standard output")
	oneOf(c, &format, "format", "form of the file", "docker", "oci")
	r.flags(f)
	_ = c.MarkFlagFilename("output")
	return c
}

func (a *app) load() *cobra.Command {
	var file string
	var p layer.Platform
	c := &cobra.Command{
		Use:   "load [flags]",
		Short: "Take images from a file into the store",
		Long: `Load takes all images of a file into the store, under the names that they have
there, and prints each with its digest. It reads what cairn save and docker save
write, and OCI layouts, as a tar file or a directory.`,
		Example: `  cairn load -i app.tar
  docker save app | cairn load`,
		Args: takes(),
	}
	c.RunE = a.does(func(ctx context.Context, _ []string) error {
		return a.session(func(b *builder.Builder) error {
			path, remove, err := a.archive(ctx, b.Store, file)
			if err != nil {
				return err
			}
			defer remove()
			all, err := b.Load(ctx, path, p)
			if errors.Is(err, builder.ErrNoArchive) {
				return fmt.Errorf("loading %s: %w", cmp.Or(strings.TrimPrefix(file, "-"), "standard input"), err)
			}
			if err != nil {
				return cause(ctx, err)
			}
			for _, one := range all {
				for _, name := range one.Names {
					if name != builder.Untagged(one.Image) {
						name = registry.Familiar(name) + "@" + string(one.Image.Digest)
					}
					if _, err := fmt.Fprintln(a.stdout, name); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	c.Flags().StringVarP(&file, "input", "i", "-", "read `FILE`, or a directory; - is standard input")
	platformFlag(c.Flags(), &p, "of several images under one name, take that for another platform than this machine's")
	_ = c.MarkFlagFilename("input")
	return c
}

// archive is the file to read; standard input is kept in one of the store that remove
// removes, since an archive's parts lie in any order.
func (a *app) archive(ctx context.Context, s *store.Store, file string) (path string, remove func(), err error) {
	if file != "-" {
		return file, func() {}, nil
	}
	if term.IsTerminal(int(a.stdin.Fd())) {
		return "", nil, usagef("standard input is a terminal: name a file with -i, or pipe an image in")
	}
	dir, err := s.TempDir("load-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // or the store does
	f, err := os.Create(dir + "/archive")
	if err != nil {
		remove()
		return "", nil, s.Explain("keep the archive", err)
	}
	_, err = unlessDone(ctx, func() (string, error) {
		_, err := io.Copy(f, a.stdin)
		return "", err
	})
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("reading standard input: %w", s.Explain("keep the archive", err))
	}
	return f.Name(), remove, nil
}
