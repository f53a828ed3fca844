package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

// inspected is an image in the output of cairn inspect. Its fields are those of
// --format.
type inspected struct {
	Name      string                          `json:"name"`
	ID        layer.Digest                    `json:"id"`
	Digest    layer.Digest                    `json:"digest"`
	MediaType string                          `json:"mediaType"`
	Platform  layer.Platform                  `json:"platform"`
	Created   *time.Time                      `json:"created,omitempty"`
	Author    string                          `json:"author,omitempty"`
	Size      int64                           `json:"size"` // of the compressed layers
	Config    dockerspec.DockerOCIImageConfig `json:"config"`
	History   []ocispec.History               `json:"history"`
	Layers    []layer.Descriptor              `json:"layers"`
	Manifest  json.RawMessage                 `json:"manifest"`
	Images    []member                        `json:"images,omitempty"` // of several platforms; the other fields are about the main one
	raw       []byte
}

// member is the image of one platform in an index.
type member struct {
	Platform layer.Platform `json:"platform"`
	ID       layer.Digest   `json:"id"`
	Digest   layer.Digest   `json:"digest"`
	Size     int64          `json:"size"` // of the compressed layers
}

func newInspect(p *Program) *cobra.Command {
	var format string
	var platform layer.Platform
	c := &cobra.Command{
		Use:   "inspect [flags] IMAGE...",
		Short: "Show the digests, configuration and layers of images",
		Long: `Inspect shows the digests, the configuration and the layers of images. --format json
prints all data; manifest and config print these documents unchanged; other formats are
Go templates. For an index, inspect lists the images of all platforms, and shows the
configuration of the image for this machine or for --platform.`,
		Example: `  cairn inspect app
  cairn inspect --format json app
  cairn inspect --format config app | jq .config.Env
  cairn inspect --format '{{.Digest}} {{join .Config.Entrypoint " "}}' app`,
		Args:              imageArgs,
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(func(_ context.Context, args []string) error {
		return p.withStore(func(env *environment) error {
			var list []inspected
			for _, ref := range args {
				i, err := inspectImage(env, ref, platform)
				if err != nil {
					return err
				}
				list = append(list, i)
			}
			return printInspected(p.Stdout, format, list)
		})
	})
	c.Flags().StringVarP(&format, "format", "f", "", "`FORMAT` of the output: json, manifest, config, or a Go template")
	platformFlag(c.Flags(), &platform, "Show the image for this platform of an index")
	completeFlag(c, "format", "json", "manifest", "config")
	return c
}

func inspectImage(env *environment, ref string, p layer.Platform) (inspected, error) {
	t, err := env.Lookup(ref)
	if err != nil {
		return inspected{}, err
	}
	img, name := t.Image, t.Ref
	if t.Index != nil && p.OS != "" {
		var ok bool
		if img, ok = t.Index.ForPlatform(p); !ok {
			return inspected{}, fmt.Errorf("%s has no image for %s: want %s", ref, p, platformsOf(t))
		}
		t.Index = nil
	}
	var config dockerspec.DockerOCIImage
	if err := json.Unmarshal(img.Config, &config); err != nil {
		return inspected{}, fmt.Errorf("reading the config of %s: %w", ref, err)
	}
	if !untagged(name) {
		name = reference.Familiar(name)
	}
	i := inspected{
		Name: name, ID: img.ConfigDigest, Digest: img.Digest, MediaType: img.MediaType,
		Created: config.Created, Author: config.Author, Size: layer.SizeOf(img),
		Config: config.Config, History: config.History, Layers: img.Layers, Manifest: img.Manifest, raw: img.Config,
	}
	if p := platformOf(img); p != nil {
		i.Platform = *p
	}
	if set := t.Index; set != nil {
		i.Digest, i.MediaType, i.Manifest, i.Size = set.Digest, set.MediaType, set.Raw, layer.SizeOf(set.Images...)
		for _, img := range set.Images {
			m := member{ID: img.ConfigDigest, Digest: img.Digest, Size: layer.SizeOf(img)}
			m.Platform, _ = img.Platform() // checked when the index was read
			i.Images = append(i.Images, m)
		}
	}
	return i, nil
}

func printInspected(w io.Writer, format string, list []inspected) error {
	for i, img := range list {
		var err error
		switch format {
		case "manifest":
			_, err = w.Write(img.Manifest)
		case "config":
			_, err = w.Write(img.raw)
		case "":
			if i > 0 {
				fmt.Fprintln(w)
			}
			_, err = fmt.Fprint(w, img.text())
		default:
			return writeFormat(w, format, list)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// text returns the description for people.
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
		text, _ := compactJSON(list) // strings always marshal
		return text
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

// oneStep returns the command that created a layer as a line of at most 70 characters.
func oneStep(by string) string {
	by = strings.Join(strings.Fields(strings.TrimSuffix(by, " # buildkit")), " ")
	if r := []rune(by); len(r) > 70 {
		by = string(r[:69]) + "…"
	}
	return by
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
