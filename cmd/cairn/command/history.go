package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/cairn-build/cairn/layer"
)

// historyRow is an instruction in the output of cairn history. Its fields are those of
// --format.
type historyRow struct {
	ID        string       `json:"id"` // of the image, for its last instruction
	CreatedAt time.Time    `json:"createdAt"`
	CreatedBy string       `json:"createdBy"`
	Size      int64        `json:"size"` // of the compressed layer; 0 without one
	Comment   string       `json:"comment"`
	Layer     layer.Digest `json:"layer,omitempty"`
}

// historyCommand is a run of cairn history.
type historyCommand struct {
	*Program
	platform       layer.Platform
	quiet, noTrunc bool
	human          bool
	format         string

	registries registryFlags // for --tag
	tag, local bool
}

func newHistory(p *Program) *cobra.Command {
	h := &historyCommand{Program: p}
	c := &cobra.Command{
		Use:   "history [flags] IMAGE",
		Short: "Show the instructions and layers of an image",
		Long: `History shows the instructions that an image was made by, the last one first, with
the sizes of their layers. SIZE is that of the compressed layer, as in a registry.

With --tag it shows the images that the tag has had, the present one first, for cairn
rollback: of the tag in a registry if the name begins with the host of one, and
otherwise of the tag in the store.`,
		Example: `  cairn history app
  cairn history --tag registry.example/me/app:prod
  cairn history --no-trunc --format '{{.Size}} {{.CreatedBy}}' app`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return checkImageArg(args[0])
			}
			return exactArgs("IMAGE")(c, args)
		},
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error {
		if h.tag {
			return h.printTag(ctx, args[0])
		}
		return p.withStore(func(env *environment) error { return h.run(env, args[0]) })
	})
	f := c.Flags()
	f.BoolVarP(&h.quiet, "quiet", "q", false, "Only show image IDs, and <missing> for instructions below the last")
	f.BoolVar(&h.tag, "tag", false, "Show the images that the tag has had")
	f.BoolVar(&h.local, "local", false, "With --tag: show those of the store even if the name begins with a registry")
	f.BoolVar(&h.noTrunc, "no-trunc", false, "Don't truncate output")
	f.BoolVarP(&h.human, "human", "H", true, "Print sizes and dates in a readable form")
	f.StringVar(&h.format, "format", "", "`FORMAT` of the output: json, or a Go template for each instruction")
	platformFlag(f, &h.platform, "Show the image for this platform (default $DOCKER_DEFAULT_PLATFORM, or this machine's)")
	h.registries.flags(f)
	return c
}

func (h *historyCommand) run(env *environment, ref string) error {
	if err := setDefaultPlatform(&h.platform); err != nil {
		return err
	}
	t, err := env.Lookup(ref)
	if err != nil {
		return err
	}
	img, err := images.ForPlatform(t, ref, h.platform)
	if err != nil {
		return err
	}
	rows, err := historyOf(img)
	if err != nil {
		return fmt.Errorf("reading the history of %s: %w", ref, err)
	}
	switch {
	case h.format != "":
		return writeFormat(h.Stdout, h.format, rows)
	case h.quiet:
		for _, r := range rows {
			if _, err := fmt.Fprintln(h.Stdout, h.id(r)); err != nil {
				return err
			}
		}
		return nil
	}
	return h.table(rows)
}

// historyOf returns the instructions of an image, the last one first.
func historyOf(img layer.Image) ([]historyRow, error) {
	var config dockerspec.DockerOCIImage
	if err := json.Unmarshal(img.Config, &config); err != nil {
		return nil, err
	}
	layers := img.Layers
	rows := []historyRow{}
	for _, h := range config.History {
		r := historyRow{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			r.CreatedAt = *h.Created
		}
		if !h.EmptyLayer {
			if len(layers) == 0 {
				return nil, errors.New("it has more layers than the manifest")
			}
			r.Size, r.Layer, layers = layers[0].Size, layers[0].Digest, layers[1:]
		}
		rows = append(rows, r)
	}
	for _, l := range layers { // without an entry in the history
		rows = append(rows, historyRow{ID: "<missing>", Size: l.Size, Layer: l.Digest})
	}
	if len(rows) > 0 {
		rows[len(rows)-1].ID = string(img.ConfigDigest)
	}
	slices.Reverse(rows)
	return rows, nil
}

func (h *historyCommand) id(r historyRow) string {
	if d := layer.Digest(r.ID); !h.noTrunc && strings.HasPrefix(r.ID, "sha256:") {
		return d.Hex()[:12]
	}
	return r.ID
}

// maxCreatedBy is the width of a truncated instruction, as docker's.
const maxCreatedBy = 45

func (h *historyCommand) table(rows []historyRow) error {
	w := tabwriter.NewWriter(h.Stdout, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tCREATED\tCREATED BY\tSIZE\tCOMMENT")
	for _, r := range rows {
		by := strings.Join(strings.Fields(termtext.Safe(r.CreatedBy)), " ")
		if runes := []rune(by); !h.noTrunc && len(runes) > maxCreatedBy {
			by = string(runes[:maxCreatedBy-1]) + "…"
		}
		created, size := ago(r.CreatedAt), units.HumanSize(float64(r.Size))
		if !h.human {
			created, size = r.CreatedAt.UTC().Format(time.RFC3339), fmt.Sprint(r.Size)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", h.id(r), created, by, size, termtext.Safe(r.Comment))
	}
	return w.Flush()
}
