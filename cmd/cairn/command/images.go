package command

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry/reference"
)

// untaggedPrefix begins the reference under which the store keeps an image without a
// name.
const untaggedPrefix = "<none>@"

func untagged(ref string) bool { return strings.HasPrefix(ref, untaggedPrefix) }

// imageRow is an image in the output of cairn images. Its fields are those of --format.
type imageRow struct {
	Repository string       `json:"repository"`
	Tag        string       `json:"tag"`
	ID         layer.Digest `json:"id"`
	Digest     layer.Digest `json:"digest"`
	Platform   string       `json:"platform"` // separated by commas
	Created    time.Time    `json:"created"`
	Tagged     time.Time    `json:"tagged"`
	Size       int64        `json:"size"` // of the compressed layers
}

// imagesCommand is a run of cairn images.
type imagesCommand struct {
	*Program
	quiet   bool
	noTrunc bool
	digests bool
	format  string
	filters []imageFilter
	near    []neighbour // filters before and since
}

func newImages(p *Program) *cobra.Command {
	l := &imagesCommand{Program: p}
	c := &cobra.Command{
		Use:        "images [flags] [NAME[:TAG]]",
		Aliases:    []string{"ls"},
		SuggestFor: []string{"list"},
		Short:      "List images",
		Long: `Images lists the images of the store, all or those with the given name. SIZE is the
size of the compressed layers, as in a registry.`,
		Example: `  cairn images
  cairn images -q app
  cairn images --format '{{.Repository}}:{{.Tag}} {{.Digest}}'`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return checkReferenceArg(args[0])
			}
			return optionalArg("NAME")(c, args)
		},
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(func(_ context.Context, args []string) error { return l.run(args) })
	f := c.Flags()
	f.BoolVarP(&l.quiet, "quiet", "q", false, "Only show image IDs")
	f.BoolP("all", "a", false, "No effect, for compatibility with docker images: there are no intermediate images")
	repeatedFlag(f, "filter", "f", "NAME=VALUE", "Only show some images: reference=PATTERN, dangling=BOOL, label=NAME[=VALUE], before=IMAGE, since=IMAGE or until=TIME; of several, all apply", l.addFilter)
	f.BoolVar(&l.noTrunc, "no-trunc", false, "Don't truncate output")
	f.BoolVar(&l.digests, "digests", false, "Show digests")
	f.StringVar(&l.format, "format", "", "`FORMAT` of the output: json, or a Go template for each image")
	return c
}

// addFilter adds a value of --filter.
func (l *imagesCommand) addFilter(s string) error {
	name, image, _ := strings.Cut(s, "=")
	if (name == "before" || name == "since") && image != "" {
		l.near = append(l.near, neighbour{image, name == "since"})
		return checkImageArg(image)
	}
	f, err := parseImageFilter(s)
	l.filters = append(l.filters, f)
	return err
}

func (l *imagesCommand) run(names []string) error {
	return l.withStore(func(env *environment) error {
		all, damaged, err := env.Store.AllImages()
		if err != nil {
			return err
		}
		for _, n := range l.near {
			f, err := n.filter(env)
			if err != nil {
				return err
			}
			l.filters = append(l.filters, f)
		}
		l.warnDamaged(damaged)
		rows, err := imageRows(all, names, l.filters)
		switch {
		case err != nil:
			return err
		case l.format != "":
			return writeFormat(l.Stdout, l.format, rows)
		case l.quiet:
			return l.printIDs(rows)
		}
		return l.printTable(rows)
	})
}

// warnDamaged prints warnings of images that are not listed.
func (p *Program) warnDamaged(damaged []error) {
	for _, err := range damaged {
		fmt.Fprintf(p.Stderr, "warning: not listed: %v: cairn check --repair removes damaged data\n", err)
	}
}

// imageRows describes images, the newest first.
func imageRows(all []store.Tagged, names []string, filters []imageFilter) ([]imageRow, error) {
	var rows []imageRow
	for _, t := range all {
		if len(names) > 0 {
			ok, err := hasName(t.Ref, names[0])
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
		}
		if !slices.ContainsFunc(filters, func(f imageFilter) bool { return !f(t) }) {
			rows = append(rows, newImageRow(t))
		}
	}
	slices.SortStableFunc(rows, func(a, b imageRow) int { return b.Tagged.Compare(a.Tagged) })
	return rows, nil
}

// hasName reports whether a reference has the name. A name without a tag stands for
// all tags.
func hasName(ref, name string) (bool, error) {
	want, err := reference.Parse(name)
	if err != nil {
		return false, err
	}
	have, err := reference.Parse(ref)
	if err != nil {
		return false, nil // an image without a name
	}
	if have.Domain != want.Domain || have.Repo != want.Repo {
		return false, nil
	}
	plain := !strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") && want.Digest == ""
	return plain || have.Tag == want.Tag && have.Digest == want.Digest, nil
}

func newImageRow(t store.Tagged) imageRow {
	l := imageRow{Repository: "<none>", Tag: "<none>", ID: t.Image.ConfigDigest, Digest: t.Image.Digest, Tagged: t.Created}
	if ref, err := reference.Parse(t.Ref); err == nil && !untagged(t.Ref) {
		l.Repository = ref.Familiar()
		if ref.Tag != "" {
			l.Tag = ref.Tag
		}
	}
	l.Digest = t.Digest()
	l.Platform = platformsOf(t)
	var config struct{ Created time.Time }
	if json.Unmarshal(t.Image.Config, &config) == nil {
		l.Created = config.Created
	}
	l.Size = layer.SizeOf(imagesOf(t)...)
	return l
}

// imagesOf returns the images of all platforms.
func imagesOf(t store.Tagged) []layer.Image {
	if t.Index != nil {
		return t.Index.Images
	}
	return []layer.Image{t.Image}
}

func platformsOf(t store.Tagged) string {
	var all []string
	for _, img := range imagesOf(t) {
		if p := platformOf(img); p != nil {
			all = append(all, p.String())
		}
	}
	return strings.Join(all, ",")
}

func (l *imagesCommand) printIDs(rows []imageRow) error {
	seen := map[layer.Digest]bool{}
	for _, row := range rows {
		if seen[row.ID] {
			continue
		}
		seen[row.ID] = true
		if _, err := fmt.Fprintln(l.Stdout, l.id(row)); err != nil {
			return err
		}
	}
	return nil
}

func (l *imagesCommand) id(row imageRow) string {
	if l.noTrunc {
		return string(row.ID)
	}
	return row.ID.Hex()[:12]
}

func (l *imagesCommand) printTable(rows []imageRow) error {
	w := tabwriter.NewWriter(l.Stdout, 0, 8, 3, ' ', 0)
	digest := func(text string) string {
		if !l.digests {
			return ""
		}
		return text + "\t"
	}
	fmt.Fprintf(w, "REPOSITORY\tTAG\t%sIMAGE ID\tCREATED\tSIZE\n", digest("DIGEST"))
	for _, row := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s%s\t%s\t%s\n", row.Repository, row.Tag, digest(string(row.Digest)), l.id(row), ago(row.Created), units.HumanSize(float64(row.Size)))
	}
	return w.Flush()
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}
