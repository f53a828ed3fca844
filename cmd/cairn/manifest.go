package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

func (a *app) manifest() *cobra.Command {
	c := &cobra.Command{
		Use:   "manifest",
		Short: "Join images for several platforms behind one index",
		Long: `Images that were built on different machines become one: an index in the store
under a name of its own, which points at each. No layer is fetched for it; push
has the registry take over what it has in other repositories already.`,
		Example: `  cairn manifest create registry.example/app:1 registry.example/app:1-amd64 registry.example/app:1-arm64
  cairn manifest push registry.example/app:1`,
		Args:                       subcommand,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
		SuggestionsMinimumDistance: 2,
	}
	c.AddCommand(a.manifestCreate(), a.manifestAdd(), a.manifestPush(), a.manifestInspect())
	return c
}

func (a *app) manifestCreate() *cobra.Command {
	var r registries
	o := builder.Join{Index: map[string]string{}}
	c := &cobra.Command{
		Use:   "create [flags] NAME IMAGE...",
		Short: "Make an index of images",
		Long: `Create makes an index of images and keeps it in the store as NAME. An IMAGE is one
of the store, or else of its registry; with docker:// before it, of its registry
whatever the store has. Of an index all images are taken, or those for --platform.`,
		Example: `  cairn manifest create app:1 registry.example/app:1-amd64 registry.example/app:1-arm64
  cairn manifest create --platform linux/amd64,linux/arm64 --annotation org.opencontainers.image.title=app app:1 debian:12
  cairn manifest create --amend app:1 registry.example/app:1-riscv64`,
		Args:              takesNameAnd("IMAGE"),
		ValidArgsFunction: a.completeImages,
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error { return a.join(ctx, r, args, o) })
	f := c.Flags()
	f.BoolVarP(&o.Amend, "amend", "a", false, "add to the index that NAME is already, in the place of what it has for the same platforms")
	pairsFlag(f, o.Index, "annotation", "add an annotation to the index")
	chosenFlag(f, &o.Platforms)
	r.flags(f)
	return c
}

func (a *app) manifestAdd() *cobra.Command {
	var r registries
	o := builder.Join{Amend: true, Entries: map[string]string{}}
	c := &cobra.Command{
		Use:   "add [flags] NAME IMAGE...",
		Short: "Add images to an index",
		Long: `Add adds images to the index NAME, as create takes them. One for a platform that the
index has an image for already takes its place. The index can say of an image what
the image itself does not say, or says wrongly: see the flags.`,
		Example: `  cairn manifest add app:1 registry.example/app:1-riscv64
  cairn manifest add --arch arm --variant v6 app:1 app:pi`,
		Args:              takesNameAnd("IMAGE"),
		ValidArgsFunction: a.completeImages,
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error { return a.join(ctx, r, args, o) })
	f := c.Flags()
	pairsFlag(f, o.Entries, "annotation", "add an annotation to what points at each IMAGE")
	f.StringVar(&o.As.OS, "os", "", "`OS` that the image is for, such as linux")
	f.StringVar(&o.As.Architecture, "arch", "", "`ARCH` that it is for, such as arm64")
	f.StringVar(&o.As.Variant, "variant", "", "`VARIANT` of the architecture, such as v7")
	f.StringVar(&o.As.OSVersion, "os-version", "", "`VERSION` of the operating system")
	eachVar(f, "os-features", "", "FEATURE[,...]", "what the operating system must have", func(s string) error {
		o.As.OSFeatures = append(o.As.OSFeatures, strings.Split(s, ",")...)
		slices.Sort(o.As.OSFeatures)
		return nil
	})
	chosenFlag(f, &o.Platforms)
	r.flags(f)
	return c
}

// join makes or changes an index, and says what it holds.
func (a *app) join(ctx context.Context, r registries, args []string, o builder.Join) error {
	o.Images = args[1:]
	return a.online(r, plainly(true), func(b *builder.Builder) error {
		j, err := b.Join(ctx, args[0], o)
		if err != nil {
			return cause(ctx, err)
		}
		for _, img := range j.Replaced {
			if p, err := img.Platform(); err == nil && p.OS != "unknown" {
				fmt.Fprintf(a.stderr, "replaced %s %s\n", img.Digest, p.Full())
			}
		}
		_, err = fmt.Fprintf(a.stdout, "%s@%s\n", args[0], j.Set.Digest)
		return err
	})
}

func (a *app) manifestPush() *cobra.Command {
	var r registries
	var quiet, remove bool
	c := &cobra.Command{
		Use:   "push [flags] NAME [DESTINATION]",
		Short: "Push an index with all its images",
		Long: `Push sends an index and all images behind it to the registry that its name says, or
to DESTINATION, and prints it with its digest. Layers that are in another
repository of the same registry are mounted from there; those that are only in
another registry are copied from it.`,
		Example: `  cairn manifest push registry.example/app:1
  cairn manifest push app:1 registry.example/app:1`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("NAME is missing: want NAME [DESTINATION]")
			case len(args) > 2:
				return usagef("unexpected argument %q: want only NAME [DESTINATION]", args[2])
			}
			return nil
		},
		ValidArgsFunction: a.completeImages,
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error {
		to := args[len(args)-1]
		return a.online(r, plainly(quiet), func(b *builder.Builder) error {
			t, err := b.Tagged(args[0])
			if err == nil && t.Set == nil {
				err = fmt.Errorf("%s is an image, not an index: cairn push sends it", args[0])
			}
			if err != nil {
				return err
			}
			err = a.forEach(ctx, []string{to}, func(ctx context.Context, to string) (layer.Digest, error) {
				if len(args) == 1 {
					return b.Push(ctx, args[0])
				}
				return b.PushAs(ctx, args[0], to)
			})
			if err == nil && remove {
				_, err = b.Remove(args[0])
			}
			return err
		})
	})
	f := c.Flags()
	f.BoolVar(&remove, "rm", false, "forget the index here once it is there")
	f.BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	r.flags(f)
	return c
}

func (a *app) manifestInspect() *cobra.Command {
	var r registries
	var raw bool
	var format string
	c := &cobra.Command{
		Use:   "inspect [flags] NAME",
		Short: "Show what an index or a manifest says",
		Long: `Inspect shows the index or the manifest that NAME means in the store, or else in its
registry; with docker:// before it, in its registry whatever the store has.`,
		Example: `  cairn manifest inspect debian:12
  cairn manifest inspect --raw docker://registry.example/app:1 | sha256sum
  cairn manifest inspect --format '{{range .Manifests}}{{.Platform}} {{end}}' debian:12`,
		Args:              takes("NAME"),
		ValidArgsFunction: a.completeImages,
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error {
		if raw && format != "" {
			return usagef("--raw and --format exclude each other")
		}
		return a.online(r, plainly(true), func(b *builder.Builder) error {
			found, err := b.Look(ctx, args[0])
			if err != nil {
				return cause(ctx, err)
			}
			if raw {
				_, err = a.stdout.Write(found.Raw)
				return err
			}
			return a.showManifest(found, format)
		})
	})
	f := c.Flags()
	f.BoolVar(&raw, "raw", false, "print it byte by byte")
	f.StringVarP(&format, "format", "f", "", "`FORMAT`: json, or a Go template")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
	r.flags(f)
	return c
}

// document is an index or a manifest as inspect shows it; its fields are those of
// --format.
type document struct {
	Name        string            `json:"name"`
	MediaType   string            `json:"mediaType"`
	Digest      layer.Digest      `json:"digest"`
	Manifests   []pointed         `json:"manifests,omitempty"`
	Config      *pointed          `json:"config,omitempty"`
	Layers      []pointed         `json:"layers,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// pointed is what a descriptor says.
type pointed struct {
	MediaType   string            `json:"mediaType"`
	Digest      layer.Digest      `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *layer.Platform   `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func (a *app) showManifest(found builder.Looked, format string) error {
	var d document
	if err := json.Unmarshal(found.Raw, &d); err != nil {
		return fmt.Errorf("%s: %w", found.Ref, err)
	}
	d.Name, d.MediaType, d.Digest = found.Ref, found.MediaType, layer.FromBytes(found.Raw)
	if !untagged(d.Name) {
		d.Name = registry.Familiar(d.Name)
	}
	if format == "json" {
		text, err := indented(d)
		if err == nil {
			_, err = a.stdout.Write(text)
		}
		return err
	}
	if format != "" {
		return a.format(format, []document{d})
	}
	_, err := fmt.Fprint(a.stdout, d.text())
	return err
}

// text is what people read.
func (d *document) text() string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "%-12s %s\n", name+":", value) }
	line("Name", d.Name)
	line("Media type", d.MediaType)
	line("Digest", string(d.Digest))
	annotations(&b, "", d.Annotations)
	if d.Config != nil {
		line("Config", string(d.Config.Digest))
	}
	for _, m := range d.Manifests {
		platform := "any platform"
		if m.Platform != nil {
			platform = m.Platform.Full()
		}
		line("Image", string(m.Digest)+" "+platform)
		annotations(&b, "  ", m.Annotations)
	}
	for _, l := range d.Layers {
		line("Layer", fmt.Sprintf("%s %s %s", l.Digest, units.HumanSize(float64(l.Size)), l.MediaType))
		annotations(&b, "  ", l.Annotations)
	}
	return b.String()
}

func annotations(b *strings.Builder, indent string, all map[string]string) {
	for _, name := range sorted(all) {
		fmt.Fprintf(b, "%-12s %s\n", indent+"Annotation:", name+"="+all[name])
	}
}

// takesNameAnd wants NAME and one or more of the named arguments.
func takesNameAnd(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < 2 {
			return usagef("%s is missing: want NAME %s...", []string{"NAME", name}[len(args)], name)
		}
		return checkArgument(args[0])
	}
}

// checkArgument finds what is wrong with an argument that names an image.
func checkArgument(s string) error {
	if _, err := registry.Normalize(s); err != nil {
		return &usageError{err}
	}
	return nil
}

// pairsFlag reads NAME=VALUE into a map.
func pairsFlag(f *pflag.FlagSet, to map[string]string, flag, usage string) {
	eachVar(f, flag, "", "NAME=VALUE", usage, func(s string) error {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return errors.New("want NAME=VALUE")
		}
		to[name] = value
		return nil
	})
}
