package main

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

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
)

// untaggedPrefix begins the name under which the store keeps an image that has
// no other.
const untaggedPrefix = "<none>@"

func untagged(ref string) bool { return strings.HasPrefix(ref, untaggedPrefix) }

// listed is an image as images shows it; its fields are those of --format.
type listed struct {
	Repository string       `json:"repository"`
	Tag        string       `json:"tag"`
	ID         layer.Digest `json:"id"`
	Digest     layer.Digest `json:"digest"`
	Platform   string       `json:"platform"` // of several, with commas between
	Created    time.Time    `json:"created"`
	Tagged     time.Time    `json:"tagged"`
	Size       int64        `json:"size"` // of the layers, compressed
}

func (a *app) images() *cobra.Command {
	var quiet, full, digests bool
	var format string
	c := &cobra.Command{
		Use:        "images [flags] [NAME[:TAG]]",
		Aliases:    []string{"ls"},
		SuggestFor: []string{"list"},
		Short:      "List images",
		Long: `Images lists the images of the store, all or those of one name. SIZE is that of
the layers as a registry has them, compressed.`,
		Example: `  cairn images
  cairn images -q app
  cairn images --format '{{.Repository}}:{{.Tag}} {{.Digest}}'`,
		Args:              takesUpTo("NAME"),
		ValidArgsFunction: a.completeImages,
	}
	c.RunE = a.does(func(_ context.Context, args []string) error {
		return a.session(func(b *builder.Builder) error {
			all, err := b.Store.Images()
			if err != nil {
				return err
			}
			list, err := list(all, args)
			switch {
			case err != nil:
				return err
			case format != "":
				return a.format(format, list)
			case quiet:
				return a.printIDs(list, full)
			}
			return a.printTable(list, full, digests)
		})
	})
	f := c.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	f.BoolVar(&full, "no-trunc", false, "print IDs whole")
	f.BoolVar(&digests, "digests", false, "print digests too")
	f.StringVar(&format, "format", "", "`FORMAT`: json, or a Go template for each image")
	return c
}

// list describes images, the newest first.
func list(all []store.Tagged, names []string) ([]listed, error) {
	var out []listed
	for _, t := range all {
		if len(names) > 0 {
			ok, err := named(t.Ref, names[0])
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
		}
		out = append(out, describe(t))
	}
	slices.SortStableFunc(out, func(a, b listed) int { return b.Tagged.Compare(a.Tagged) })
	return out, nil
}

// named tells whether a reference has a name, under whatever tag if that has none.
func named(ref, name string) (bool, error) {
	want, err := registry.ParseReference(name)
	if err != nil {
		return false, err
	}
	have, err := registry.ParseReference(ref)
	if err != nil {
		return false, nil // one without a name
	}
	if have.Domain != want.Domain || have.Repo != want.Repo {
		return false, nil
	}
	plain := !strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") && want.Digest == ""
	return plain || have.Tag == want.Tag && have.Digest == want.Digest, nil
}

func describe(t store.Tagged) listed {
	l := listed{Repository: "<none>", Tag: "<none>", ID: t.Image.ConfigDigest, Digest: t.Image.Digest, Tagged: t.Created}
	if ref, err := registry.ParseReference(t.Ref); err == nil && !untagged(t.Ref) {
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
	l.Size = sizeOf(imagesOf(t)...)
	return l
}

// imagesOf lists the images of all platforms.
func imagesOf(t store.Tagged) []layer.Image {
	if t.Set != nil {
		return t.Set.Images
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

// sizeOf is the size of images' layers as a registry has them, one that occurs
// twice counted once.
func sizeOf(images ...layer.Image) (sum int64) {
	seen := map[layer.Digest]bool{}
	for _, img := range images {
		for _, b := range img.Layers {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				sum += b.Size
			}
		}
	}
	return sum
}

func (a *app) printIDs(list []listed, full bool) error {
	seen := map[layer.Digest]bool{}
	for _, l := range list {
		if seen[l.ID] {
			continue
		}
		seen[l.ID] = true
		if _, err := fmt.Fprintln(a.stdout, shortID(l.ID, full)); err != nil {
			return err
		}
	}
	return nil
}

func shortID(d layer.Digest, full bool) string {
	if full {
		return string(d)
	}
	return d.Hex()[:12]
}

func (a *app) printTable(list []listed, full, digests bool) error {
	w := tabwriter.NewWriter(a.stdout, 0, 8, 3, ' ', 0)
	digest := func(text string) string {
		if !digests {
			return ""
		}
		return text + "\t"
	}
	fmt.Fprintf(w, "REPOSITORY\tTAG\t%sIMAGE ID\tCREATED\tSIZE\n", digest("DIGEST"))
	for _, l := range list {
		fmt.Fprintf(w, "%s\t%s\t%s%s\t%s\t%s\n", l.Repository, l.Tag, digest(string(l.Digest)), shortID(l.ID, full), ago(l.Created), units.HumanSize(float64(l.Size)))
	}
	return w.Flush()
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}
