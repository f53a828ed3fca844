package command

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/registry/reference"
)

// Report writes an error for people: after a failed step the last lines of its
// output, and the lines of the Dockerfile that it is about.
func Report(w io.Writer, err error) {
	var step *builder.StepError
	if errors.As(err, &step) && len(step.Tail) > 0 {
		fmt.Fprintf(w, "------\n > %s:\n", termtext.Safe(step.Name))
		for _, line := range step.Tail {
			fmt.Fprintln(w, line)
		}
		fmt.Fprintln(w, "------")
	}
	var lint *dockerfile.LintError
	if errors.As(err, &lint) {
		printLintWarnings(w, lint.Warnings)
	}
	var at *dockerfile.Error
	if errors.As(err, &at) {
		fmt.Fprint(w, source.Redact(at.Excerpt()))
	}
	fmt.Fprintf(w, "error: %s\n", termtext.Safe(source.Redact(err.Error())))
	if step != nil && step.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", termtext.Safe(step.Hint))
	}
}

// printBuilt prints the digests and names of the image.
func printBuilt(w io.Writer, built *builder.Built) {
	if built.Index != nil {
		for _, img := range built.Index.Images {
			fmt.Fprintf(w, "image  %s %s\n", img.ConfigDigest, platformOf(img))
		}
	} else {
		fmt.Fprintf(w, "image  %s\n", built.Image.ConfigDigest)
	}
	fmt.Fprintf(w, "digest %s\n", built.Digest())
	pushed := map[string]bool{}
	for _, ref := range built.Pushed {
		pushed[ref] = true
		fmt.Fprintf(w, "pushed %s\n", reference.Familiar(ref))
	}
	for _, ref := range built.Tags {
		if !pushed[ref] {
			fmt.Fprintf(w, "tagged %s\n", reference.Familiar(ref))
		}
	}
}

// printLintWarnings prints warnings without the lines that they are about.
func printLintWarnings(w io.Writer, list []dockerfile.Warning) {
	if len(list) == 0 {
		return
	}
	noun := "warnings"
	if len(list) == 1 {
		noun = "warning"
	}
	hint := ""
	if slices.ContainsFunc(list, func(w dockerfile.Warning) bool { return len(w.Ranges) > 0 }) {
		hint = " (cairn build --check shows where)"
	}
	fmt.Fprintf(w, "\n %d %s found%s:\n", len(list), noun, hint)
	for _, warning := range list {
		fmt.Fprintf(w, " - %s\n", warning)
	}
	fmt.Fprintln(w)
}
