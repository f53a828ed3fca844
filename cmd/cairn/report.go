package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/registry"
)

// report tells of an error: of a failed step with the last of its output, and
// of whatever has its place in a Dockerfile with the lines in question.
func (a *app) report(err error) {
	var step *builder.StepError
	if errors.As(err, &step) && len(step.Tail) > 0 {
		fmt.Fprintf(a.stderr, "------\n > %s:\n", step.Name)
		for _, line := range step.Tail {
			fmt.Fprintln(a.stderr, line)
		}
		fmt.Fprintln(a.stderr, "------")
	}
	var lint *dockerfile.LintError
	if errors.As(err, &lint) {
		a.warnings(lint.Warnings)
	}
	var at *dockerfile.Error
	if errors.As(err, &at) {
		fmt.Fprint(a.stderr, source.Redact(at.Excerpt()))
	}
	fmt.Fprintf(a.stderr, "error: %s\n", progress.Legible(source.Redact(err.Error())))
}

// summary tells what was built.
func (a *app) summary(built *builder.Built) {
	if built.Set != nil {
		for _, img := range built.Set.Images {
			fmt.Fprintf(a.stderr, "image  %s %s\n", img.ConfigDigest, platformOf(img))
		}
	} else {
		fmt.Fprintf(a.stderr, "image  %s\n", built.Image.ConfigDigest)
	}
	fmt.Fprintf(a.stderr, "digest %s\n", built.Digest())
	pushed := map[string]bool{}
	for _, ref := range built.Pushed {
		pushed[ref] = true
		fmt.Fprintf(a.stderr, "pushed %s\n", registry.Familiar(ref))
	}
	for _, ref := range built.Tags {
		if !pushed[ref] {
			fmt.Fprintf(a.stderr, "tagged %s\n", registry.Familiar(ref))
		}
	}
}

// warnings tells what the linter has to say.
func (a *app) warnings(list []dockerfile.Warning) {
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
	fmt.Fprintf(a.stderr, "\n %d %s found%s:\n", len(list), noun, hint)
	for _, w := range list {
		fmt.Fprintf(a.stderr, " - %s\n", w)
	}
	fmt.Fprintln(a.stderr)
}
