package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
)

// inspected is an image as inspect shows it; its fields are those of --format.
type inspected struct {
	Name      string                          `json:"name"`
	ID        layer.Digest                    `json:"id"`
	Digest    layer.Digest                    `json:"digest"`
	MediaType string                          `json:"mediaType"`
	Platform  layer.Platform                  `json:"platform"`
	Created   *time.Time                      `json:"created,omitempty"`
	Author    string                          `json:"author,omitempty"`
	Size      int64                           `json:"size"` // of the layers, compressed
	Config    dockerspec.DockerOCIImageConfig `json:"config"`
	History   []ocispec.History               `json:"history"`
	Layers    []layer.Blob                    `json:"layers"`
	Manifest  json.RawMessage                 `json:"manifest"`
	Images    []member                        `json:"images,omitempty"` // of several platforms; the rest is about the main one
	raw       []byte
}

// member is one platform's image behind an index.
type member struct {
	Platform layer.Platform `json:"platform"`
	ID       layer.Digest   `json:"id"`
	Digest   layer.Digest   `json:"digest"`
	Size     int64          `json:"size"` // of the layers, compressed
}

func (a *app) inspect() *cobra.Command {
	var format string
	var p layer.Platform
	c := &cobra.Command{
		Use:   "inspect [flags] IMAGE...",
		Short: "Show what images consist of",
		Long: `Inspect shows an image's digests, configuration and layers. A --format of json
prints all of it; manifest and config print those documents byte by byte;
anything else is a Go template. Of an index of several platforms it lists them all,
and the configuration of that for this machine, or of --platform.`,
		Example: `  cairn inspect app
  cairn inspect --format json app
  cairn inspect --format config app | jq .config.Env
  cairn inspect --format '{{.Digest}} {{join .Config.Entrypoint " "}}' app`,
		Args:              takesSome("IMAGE"),
		ValidArgsFunction: a.completeImages,
	}
	c.RunE = a.does(func(_ context.Context, args []string) error {
		return a.session(func(b *builder.Builder) error {
			var list []inspected
			for _, ref := range args {
				i, err := look(b, ref, p)
				if err != nil {
					return err
				}
				list = append(list, i)
			}
			return a.show(format, list)
		})
	})
	c.Flags().StringVarP(&format, "format", "f", "", "`FORMAT`: json, manifest, config, or a Go template")
	platformFlag(c.Flags(), &p, "of several platforms, show the image for this one alone")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"json", "manifest", "config"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func look(b *builder.Builder, ref string, p layer.Platform) (inspected, error) {
	t, err := b.Tagged(ref)
	if err != nil {
		return inspected{}, err
	}
	img, name := t.Image, t.Ref
	if t.Set != nil && p.OS != "" {
		var ok bool
		if img, ok = t.Set.For(p); !ok {
			return inspected{}, fmt.Errorf("%s has no image for %s, but for %s", ref, p, platformsOf(t))
		}
		t.Set = nil
	}
	var config dockerspec.DockerOCIImage
	if err := json.Unmarshal(img.Config, &config); err != nil {
		return inspected{}, fmt.Errorf("reading the config of %s: %w", ref, err)
	}
	if !untagged(name) {
		name = registry.Familiar(name)
	}
	i := inspected{
		Name: name, ID: img.ConfigDigest, Digest: img.Digest, MediaType: img.MediaType,
		Created: config.Created, Author: config.Author, Size: sizeOf(img),
		Config: config.Config, History: config.History, Layers: img.Layers, Manifest: img.Manifest, raw: img.Config,
	}
	if p := platformOf(img); p != nil {
		i.Platform = *p
	}
	if set := t.Set; set != nil {
		i.Digest, i.MediaType, i.Manifest, i.Size = set.Digest, set.MediaType, set.Index, sizeOf(set.Images...)
		for _, img := range set.Images {
			m := member{ID: img.ConfigDigest, Digest: img.Digest, Size: sizeOf(img)}
			m.Platform, _ = img.Platform() // it was read when the index was made
			i.Images = append(i.Images, m)
		}
	}
	return i, nil
}

func (a *app) show(format string, list []inspected) error {
	for i, img := range list {
		var err error
		switch format {
		case "manifest":
			_, err = a.stdout.Write(img.Manifest)
		case "config":
			_, err = a.stdout.Write(img.raw)
		case "":
			if i > 0 {
				fmt.Fprintln(a.stdout)
			}
			_, err = fmt.Fprint(a.stdout, img.text())
		default:
			return a.format(format, list)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// text is what people read.
func (i *inspected) text() string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s %s\n", name+":", value)
		}
	}
	line("Name", i.Name)
	line("ID", string(i.ID))
	line("Digest", string(i.Digest))
	line("Media type", i.MediaType)
	for _, m := range i.Images {
		line("Image", fmt.Sprintf("%s %s %s", m.Digest, units.HumanSize(float64(m.Size)), m.Platform))
	}
	line("Platform", i.Platform.String())
	if i.Created != nil {
		line("Created", i.Created.UTC().Format(time.RFC3339))
	}
	line("Author", i.Author)
	line("Size", units.HumanSize(float64(i.Size)))
	i.config(line)
	fmt.Fprintf(&b, "Layers:\n")
	at := 0
	for _, h := range i.History {
		if h.EmptyLayer || at >= len(i.Layers) {
			continue
		}
		l := i.Layers[at]
		fmt.Fprintf(&b, "  %s %9s  %s\n", l.Digest, units.HumanSize(float64(l.Size)), oneStep(h.CreatedBy))
		at++
	}
	for ; at < len(i.Layers); at++ {
		fmt.Fprintf(&b, "  %s %9s\n", i.Layers[at].Digest, units.HumanSize(float64(i.Layers[at].Size)))
	}
	return b.String()
}

func (i *inspected) config(line func(name, value string)) {
	c := i.Config
	words := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		b, _ := json.Marshal(list) // strings always marshal
		return string(b)
	}
	line("Entrypoint", words(c.Entrypoint))
	line("Command", words(c.Cmd))
	line("User", c.User)
	line("Directory", c.WorkingDir)
	for _, kv := range c.Env {
		line("Env", kv)
	}
	for _, port := range sorted(c.ExposedPorts) {
		line("Port", port)
	}
	for _, volume := range sorted(c.Volumes) {
		line("Volume", volume)
	}
	for _, name := range sorted(c.Labels) {
		line("Label", name+"="+c.Labels[name])
	}
	line("Stop signal", c.StopSignal)
	line("Shell", words(c.Shell))
	if h := c.Healthcheck; h != nil {
		line("Healthcheck", words(h.Test))
	}
	for _, trigger := range c.OnBuild {
		line("On build", trigger)
	}
}

// oneStep puts what made a layer into one line of some length.
func oneStep(by string) string {
	by = strings.Join(strings.Fields(strings.TrimSuffix(by, " # buildkit")), " ")
	if r := []rune(by); len(r) > 70 {
		by = string(r[:69]) + "…"
	}
	return by
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
