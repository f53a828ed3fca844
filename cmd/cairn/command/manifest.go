package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

func newManifest(p *Program) *cobra.Command {
	c := &cobra.Command{
		Use:   "manifest",
		Short: "Combine images for several platforms into an index",
		Long: `Manifest combines images that were built on different machines into an index (a
manifest list) in the store. It downloads no layers; push mounts the layers that the
registry has in other repositories.`,
		Example: `  cairn manifest create registry.example/app:1 registry.example/app:1-amd64 registry.example/app:1-arm64
  cairn manifest push registry.example/app:1`,
		Args:                       subcommandArg,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
		SuggestionsMinimumDistance: 2,
	}
	c.AddCommand(newManifestCreate(p), newManifestAdd(p), newManifestPush(p), newManifestInspect(p))
	return c
}

// joinCommand is a run of cairn manifest create or add.
type joinCommand struct {
	*Program
	registries registryFlags
	options    images.IndexOptions
}

const chosenPlatforms = "Take only the images for these platforms of an IMAGE that is an index, separated by commas"

func newManifestAdd(p *Program) *cobra.Command {
	j := &joinCommand{Program: p, options: images.IndexOptions{Amend: true, EntryAnnotations: map[string]string{}}}
	c := &cobra.Command{
		Use:   "add [flags] NAME IMAGE...",
		Short: "Add images to an index",
		Long: `Add adds images to the index NAME, as create does. An image replaces the one for the
same platform. The flags set the platform of the images in the index.`,
		Example: `  cairn manifest add app:1 registry.example/app:1-riscv64
  cairn manifest add --arch arm --variant v6 app:1 app:pi`,
		Args:              nameAndArgs("IMAGE"),
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(j.run)
	f, as := c.Flags(), &j.options.Platform
	mapFlag(f, j.options.EntryAnnotations, "annotation", "Add annotation to the descriptor of each IMAGE", option.ParsePair)
	f.StringVar(&as.OS, "os", "", "Set operating system `OS`, such as linux")
	f.StringVar(&as.Architecture, "arch", "", "Set architecture `ARCH`, such as arm64")
	f.StringVar(&as.Variant, "variant", "", "Set architecture `VARIANT`, such as v7")
	f.StringVar(&as.OSVersion, "os-version", "", "Set operating system `VERSION`")
	repeatedFlag(f, "os-features", "", "FEATURE[,...]", "Set operating system features", func(s string) error {
		as.OSFeatures = append(as.OSFeatures, strings.Split(s, ",")...)
		slices.Sort(as.OSFeatures)
		return nil
	})
	platformsFlag(f, &j.options.Platforms, chosenPlatforms)
	j.registries.flags(f)
	return c
}

// run creates or changes an index and prints its digest.
func (j *joinCommand) run(ctx context.Context, args []string) error {
	j.options.Images = args[1:]
	return j.withRegistries(j.registries, quietMode(true), func(env *environment) error {
		joined, err := env.CreateIndex(ctx, args[0], j.options)
		if err != nil {
			return cause(ctx, err)
		}
		j.printReplaced(joined.Replaced)
		_, err = fmt.Fprintf(j.Stdout, "%s@%s\n", args[0], joined.Index.Digest)
		return err
	})
}

// printReplaced names the images of an index that others have replaced.
func (j *joinCommand) printReplaced(replaced []layer.Image) {
	for _, img := range replaced {
		if p, err := img.Platform(); err == nil && p.OS != "unknown" {
			fmt.Fprintf(j.Stderr, "replaced %s %s\n", img.Digest, p.Full())
		}
	}
}

// manifestPushCommand is a run of cairn manifest push.
type manifestPushCommand struct {
	*Program
	registries registryFlags
	quiet      bool
	remove     bool
}

func newManifestPush(p *Program) *cobra.Command {
	m := &manifestPushCommand{Program: p}
	c := &cobra.Command{
		Use:   "push [flags] NAME [DESTINATION]",
		Short: "Push an index with all its images",
		Long: `Push uploads an index and all its images to the registry in its name, or to
DESTINATION, and prints it with its digest. It mounts layers from other repositories of
the same registry, and copies layers from other registries.`,
		Example: `  cairn manifest push registry.example/app:1
  cairn manifest push app:1 registry.example/app:1`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("NAME is missing: want NAME [DESTINATION]")
			case len(args) > 2:
				return usagef("unexpected argument %q: want only NAME [DESTINATION]", args[2])
			case len(args) == 2:
				args[1] = strings.TrimPrefix(args[1], "docker://") // as with podman
				return cmp.Or(checkImageArg(args[0]), checkReferenceArg(args[1]))
			}
			return checkImageArg(args[0])
		},
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(m.run)
	f := c.Flags()
	f.BoolVar(&m.remove, "rm", false, "Remove the index from the store after the push")
	f.BoolVarP(&m.quiet, "quiet", "q", false, "Suppress verbose output")
	m.registries.flags(f)
	m.registries.historyFlag(f)
	return c
}

func (m *manifestPushCommand) run(ctx context.Context, args []string) error {
	name, to := args[0], args[len(args)-1]
	return m.withRegistries(m.registries, quietMode(m.quiet), func(env *environment) error {
		t, err := env.Lookup(name)
		if err == nil && t.Index == nil {
			err = fmt.Errorf("%s is an image, not an index: use cairn push", name)
		}
		if err != nil {
			return err
		}
		push := func() (layer.Digest, error) { return env.PushAs(ctx, name, to) }
		if len(args) == 1 {
			push = func() (layer.Digest, error) { return env.Push(ctx, name) }
		}
		digest, err := push()
		if err != nil {
			return cause(ctx, err)
		}
		if _, err := fmt.Fprintf(m.Stdout, "%s@%s\n", to, digest); err != nil {
			return err
		}
		if m.remove {
			_, err = env.Remove(name)
		}
		return err
	})
}

// manifestInspectCommand is a run of cairn manifest inspect.
type manifestInspectCommand struct {
	*Program
	registries registryFlags
	raw        bool
	format     string
}

func newManifestInspect(p *Program) *cobra.Command {
	m := &manifestInspectCommand{Program: p}
	c := &cobra.Command{
		Use:   "inspect [flags] NAME",
		Short: "Show an index or a manifest",
		Long: `Inspect shows the index or manifest NAME of the store or of a registry;
docker://NAME always means the registry.`,
		Example: `  cairn manifest inspect debian:12
  cairn manifest inspect --raw docker://registry.example/app:1 | sha256sum
  cairn manifest inspect --format '{{range .Manifests}}{{.Platform}} {{end}}' debian:12`,
		Args: func(c *cobra.Command, args []string) error {
			if err := exactArgs("NAME")(c, args); err != nil {
				return err
			}
			return checkImageArg(strings.TrimPrefix(args[0], "docker://"))
		},
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error { return m.run(ctx, args[0]) })
	f := c.Flags()
	f.BoolVar(&m.raw, "raw", false, "Show the original document")
	f.StringVarP(&m.format, "format", "f", "", "`FORMAT` of the output: json, or a Go template")
	completeFlag(c, "format", "json")
	m.registries.flags(f)
	return c
}

func (m *manifestInspectCommand) run(ctx context.Context, name string) error {
	if m.raw && m.format != "" {
		return usagef("--raw and --format exclude each other")
	}
	return m.withRegistries(m.registries, quietMode(true), func(env *environment) error {
		found, err := env.Manifest(ctx, name)
		if err != nil {
			return cause(ctx, err)
		}
		if m.raw {
			_, err = m.Stdout.Write(found.Raw)
			return err
		}
		return printManifest(m.Stdout, found, m.format)
	})
}

// document is an index or a manifest in the output of cairn manifest inspect. Its
// fields are those of --format.
type document struct {
	Name        string               `json:"name"`
	MediaType   string               `json:"mediaType"`
	Digest      layer.Digest         `json:"digest"`
	Manifests   []manifestDescriptor `json:"manifests,omitempty"`
	Config      *manifestDescriptor  `json:"config,omitempty"`
	Layers      []manifestDescriptor `json:"layers,omitempty"`
	Annotations map[string]string    `json:"annotations,omitempty"`
}

// manifestDescriptor is a descriptor.
type manifestDescriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      layer.Digest      `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *layer.Platform   `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func printManifest(w io.Writer, found images.Manifest, format string) error {
	var d document
	if err := json.Unmarshal(found.Raw, &d); err != nil {
		return fmt.Errorf("%s: %w", found.Ref, err)
	}
	d.Name, d.MediaType, d.Digest = found.Ref, found.MediaType, layer.FromBytes(found.Raw)
	if !untagged(d.Name) {
		d.Name = reference.Familiar(d.Name)
	}
	if format == "json" {
		return writeFormat(w, format, d)
	}
	if format != "" {
		return writeFormat(w, format, []document{d})
	}
	_, err := fmt.Fprint(w, d.text())
	return err
}

// text returns the description for people.
func (d *document) text() string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "%-12s %s\n", name+":", value) }
	line("Name", d.Name)
	line("Media type", d.MediaType)
	line("Digest", string(d.Digest))
	writeAnnotations(&b, "", d.Annotations)
	if d.Config != nil {
		line("Config", string(d.Config.Digest))
	}
	for _, m := range d.Manifests {
		platform := "any platform"
		if m.Platform != nil {
			platform = m.Platform.Full()
		}
		line("Image", string(m.Digest)+" "+platform)
		writeAnnotations(&b, "  ", m.Annotations)
	}
	for _, l := range d.Layers {
		line("Layer", fmt.Sprintf("%s %s %s", l.Digest, units.HumanSize(float64(l.Size)), l.MediaType))
		writeAnnotations(&b, "  ", l.Annotations)
	}
	return b.String()
}

func writeAnnotations(b *strings.Builder, indent string, all map[string]string) {
	for _, name := range sorted(all) {
		fmt.Fprintf(b, "%-12s %s\n", indent+"Annotation:", name+"="+all[name])
	}
}
