package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/sbom"
)

// sbomCommand is a run of cairn sbom.
type sbomCommand struct {
	*Program
	registries registryFlags
	platform   layer.Platform
	format     string
	file       string
}

func newSBOM(p *Program) *cobra.Command {
	s := &sbomCommand{Program: p}
	c := &cobra.Command{
		Use:   "sbom [flags] IMAGE",
		Short: "List the packages in an image",
		Long: `Sbom writes a software bill of materials of an image: an SPDX 2.3 or CycloneDX 1.6
document in JSON, or a table. It lists the packages of Debian (dpkg) and Alpine (apk), of
Node.js, Python, Java, Ruby, PHP and .NET, the modules of Go programs and the crates of Rust
programs that cargo auditable built, each with its package URL and the layer that it came
with.

The image is one of the store or of a registry (docker://NAME always means the registry), or
the path of a Docker archive or OCI layout, with :TAG or @DIGEST if it contains several images.
Each layer is read once, and the store keeps the result; nothing is unpacked or run.

The same image gives the same document. Its time is $SOURCE_DATE_EPOCH, or else that of the
image.`,
		Example: `  cairn sbom app
  cairn sbom --format table docker://debian:12
  cairn sbom --format cyclonedx -o bom.json ./layout:1`,
		Args:              exactArgs("IMAGE"),
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(func(ctx context.Context, args []string) error { return s.run(ctx, args[0]) })
	f := c.Flags()
	enumFlag(c, &s.format, "format", "Format of the output", "spdx", "cyclonedx", "table")
	f.StringVarP(&s.file, "output", "o", "-", "Write to a `FILE`; - is standard output")
	inputLimitFlag(f, &s.registries.limits)
	platformFlag(f, &s.platform, "List the image for this platform of an index (default: this machine's)")
	s.registries.flags(f)
	_ = c.MarkFlagFilename("output")
	return c
}

func (s *sbomCommand) run(ctx context.Context, ref string) error {
	epoch, err := sourceDateEpoch()
	if err != nil {
		return err
	}
	return s.withRegistries(s.registries, quietMode(true), func(env *environment) error {
		img, err := images.Packages{Images: env.Manager}.Of(ctx, ref, s.platform)
		if err != nil {
			return cause(ctx, err)
		}
		s.warn(img.Problems)
		var b bytes.Buffer
		if err := s.write(&b, img, epoch); err != nil {
			return err
		}
		return export.WriteFile(s.file, s.Stdout, func(w io.Writer) error {
			_, err := w.Write(b.Bytes())
			return err
		})
	})
}

func (s *sbomCommand) write(w io.Writer, img *sbom.Image, epoch *time.Time) error {
	d := sbom.Document{Created: img.Created, Version: versionText()}
	if d.Created.Before(time.Unix(0, 0)) {
		d.Created = time.Unix(0, 0)
	}
	if epoch != nil {
		d.Created = *epoch
	}
	switch s.format {
	case "cyclonedx":
		return sbom.WriteCycloneDX(w, img, d)
	case "table":
		return sbom.WriteTable(w, img)
	}
	return sbom.WriteSPDX(w, img, d)
}

// shownProblems is the number of files that warnings name.
const shownProblems = 5

func (s *sbomCommand) warn(all []sbom.Problem) {
	for i, p := range all {
		if i == shownProblems {
			fmt.Fprintf(s.Stderr, "warning: the packages of %d more files are not listed; the documents name the files\n", len(all)-i)
			return
		}
		fmt.Fprintf(s.Stderr, "warning: the packages of %s are not listed: %s\n", termtext.Safe(p.Path), termtext.Safe(p.Text))
	}
}

// sourceDateEpoch returns the time in $SOURCE_DATE_EPOCH, or nil if there is none, or the name
// of a source, whose time the image has.
func sourceDateEpoch() (*time.Time, error) {
	text := os.Getenv(epochVariable)
	if text == "" || text[0] != '-' && text[0] != '+' && (text[0] < '0' || text[0] > '9') {
		return nil, nil
	}
	seconds, err := option.ParseEpoch(text)
	if err != nil {
		return nil, usagef("$%s %q: %w", epochVariable, text, err)
	}
	at := time.Unix(seconds, 0)
	return &at, nil
}
