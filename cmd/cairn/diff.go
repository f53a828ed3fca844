package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compare"
)

// exitTrouble says that diff could not compare, since 1 says that something differs.
const exitTrouble = 2

func (a *app) diff() *cobra.Command {
	var r registries
	var p layer.Platform
	var format string
	c := &cobra.Command{
		Use:   "diff [flags] A B",
		Short: "Say where two images differ",
		Long: `Diff compares two images: the index, the manifest, the configuration, the history
and, layer by layer, the paths with what differs of each: type, mode, owner, time,
content, link, xattrs, the tar header, the order of entries. It prints a line for each
difference, - for what only A says and + for what only B says.

A and B are images of the store, or else of their registries (docker://NAME: of its
registry whatever the store has), or the paths of docker archives and OCI layouts,
with :TAG or @DIGEST where they hold several images.

The status is 0 if the images are the same byte by byte, 1 if they differ, and 2 if
they could not be compared.`,
		Example: `  cairn diff app:1 app:2
  cairn diff app:1 docker://registry.example/app:1
  cairn diff --format json here.tar ./layout:1 | jq -r .path`,
		Args:              takes("A", "B"),
		ValidArgsFunction: a.completeImages,
	}
	c.RunE = a.does(func(ctx context.Context, args []string) error {
		n := 0
		show := a.showDifference()
		if format == "json" {
			e := json.NewEncoder(a.stdout)
			e.SetEscapeHTML(false)
			show = func(d compare.Difference) error { return e.Encode(d) }
		}
		err := a.online(r, plainly(true), func(b *builder.Builder) error {
			return b.Compare(ctx, [2]string(args), p, func(d compare.Difference) error {
				n++
				return show(d)
			})
		})
		if err = cause(ctx, err); err != nil {
			return a.trouble(err)
		}
		if n > 0 {
			return &exitStatus{exitFailed}
		}
		return nil
	})
	oneOf(c, &format, "format", "form of what is printed; json is one object a line", "text", "json")
	platformFlag(c.Flags(), &p, "of several platforms, compare the images for this one alone")
	r.flags(c.Flags())
	return c
}

// trouble tells of an error, with a status that is not that of a difference.
func (a *app) trouble(err error) error {
	var signal *interrupted
	var usage *usageError
	if errors.As(err, &signal) || errors.As(err, &usage) {
		return err
	}
	a.report(err)
	return &exitStatus{exitTrouble}
}

// showDifference prints differences, with a headline for each place.
func (a *app) showDifference() func(compare.Difference) error {
	var last string
	return func(d compare.Difference) error {
		var b strings.Builder
		if head := headline(d); head != last {
			fmt.Fprintln(&b, head)
			last = head
		}
		at := d.What
		if d.Path != "" {
			at = plainText(d.Path) + ": " + at
		}
		fmt.Fprintf(&b, "  %s\n", at)
		if d.A != "" {
			fmt.Fprintf(&b, "    - %s\n", plainText(d.A))
		}
		if d.B != "" {
			fmt.Fprintf(&b, "    + %s\n", plainText(d.B))
		}
		_, err := fmt.Fprint(a.stdout, b.String())
		return err
	}
}

func headline(d compare.Difference) string {
	head := d.Part
	if d.Layer > 0 {
		head += fmt.Sprintf(" %d", d.Layer)
	}
	if d.Platform != "" {
		head += " of " + d.Platform
	}
	if d.Step != "" {
		head += ": " + oneStep(d.Step)
	}
	return plainText(head)
}

// plainText is a text that stays in its line and does nothing to a terminal.
func plainText(s string) string {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return fmt.Sprintf("%q", s)
		}
	}
	return s
}
