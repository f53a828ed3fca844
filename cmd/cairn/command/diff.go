package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagediff"
)

// exitNotCompared is the exit status of diff for errors, since 1 means a difference.
const exitNotCompared = 2

// diffCommand is a run of cairn diff.
type diffCommand struct {
	*Program
	registries registryFlags
	platform   layer.Platform
	format     string
	headline   string // the last one printed
}

func newDiff(p *Program) *cobra.Command {
	d := &diffCommand{Program: p}
	c := &cobra.Command{
		Use:   "diff [flags] A B",
		Short: "Show the differences between two images",
		Long: `Diff compares two images: the index, the manifest, the configuration, the history
and the paths of each layer with type, mode, owner, time, content, link target, xattrs,
tar header and order of entries. It prints a line for each difference, with - for A and
+ for B.

A and B are images of the store or of a registry (docker://NAME always means the
registry), or paths of Docker archives and OCI layouts, with :TAG or @DIGEST if they
contain several images.

The exit status is 0 if the images are identical, 1 if they differ, and 2 if they could
not be compared.`,
		Example: `  cairn diff app:1 app:2
  cairn diff app:1 docker://registry.example/app:1
  cairn diff --format json here.tar ./layout:1 | jq -r .path`,
		Args:              exactArgs("A", "B"),
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error { return d.run(ctx, [2]string(args)) })
	enumFlag(c, &d.format, "format", "Format of the output; json is one object in a line", "text", "json")
	platformFlag(c.Flags(), &d.platform, "Compare only the images for this platform")
	d.registries.flags(c.Flags())
	return c
}

func (d *diffCommand) run(ctx context.Context, images [2]string) error {
	n := 0
	print := d.print
	if d.format == "json" {
		e := json.NewEncoder(d.Stdout)
		e.SetEscapeHTML(false)
		print = func(d imagediff.Difference) error { return e.Encode(d) }
	}
	err := d.withRegistries(d.registries, quietMode(true), func(env *environment) error {
		return env.Diff(ctx, images, d.platform, func(d imagediff.Difference) error {
			n++
			return print(d)
		})
	})
	if err = cause(ctx, err); err != nil {
		return d.failed(err)
	}
	if n > 0 {
		return &StatusError{ExitFailed}
	}
	return nil
}

// failed reports an error, with an exit status that does not mean a difference.
func (d *diffCommand) failed(err error) error {
	var signal *SignalError
	var usage *UsageError
	if errors.As(err, &signal) || errors.As(err, &usage) {
		return err
	}
	Report(d.Stderr, err)
	return &StatusError{exitNotCompared}
}

// print prints a difference, after a headline if it is in another place than the last
// one.
func (d *diffCommand) print(diff imagediff.Difference) error {
	var b strings.Builder
	if head := headline(diff); head != d.headline {
		fmt.Fprintln(&b, head)
		d.headline = head
	}
	at := diff.What
	if diff.Path != "" {
		at = quoteControls(diff.Path) + ": " + at
	}
	fmt.Fprintf(&b, "  %s\n", at)
	if diff.A != "" {
		fmt.Fprintf(&b, "    - %s\n", quoteControls(diff.A))
	}
	if diff.B != "" {
		fmt.Fprintf(&b, "    + %s\n", quoteControls(diff.B))
	}
	_, err := fmt.Fprint(d.Stdout, b.String())
	return err
}

func headline(d imagediff.Difference) string {
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
	return quoteControls(head)
}

// quoteControls quotes a text with control characters.
func quoteControls(s string) string {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return fmt.Sprintf("%q", s)
		}
	}
	return s
}
