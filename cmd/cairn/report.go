package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/dockerfile"
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
	var at *dockerfile.Error
	if errors.As(err, &at) {
		fmt.Fprint(a.stderr, at.Excerpt())
	}
	fmt.Fprintf(a.stderr, "error: %v\n", err)
}

// summary tells what was built, and what the linter has to say.
func (a *app) summary(built *builder.Built) {
	a.warnings(built.Warnings)
	fmt.Fprintf(a.stderr, "image  %s\ndigest %s\n", built.Image.ConfigDigest, built.Image.Digest)
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

func (a *app) warnings(list []dockerfile.Warning) {
	if len(list) == 0 {
		return
	}
	noun := "warnings"
	if len(list) == 1 {
		noun = "warning"
	}
	fmt.Fprintf(a.stderr, "\n %d %s found:\n", len(list), noun)
	for _, w := range list {
		fmt.Fprintf(a.stderr, " - %s: %s%s\n", w.Rule, strings.TrimSpace(w.Detail), lines(w.Ranges))
	}
	fmt.Fprintln(a.stderr)
}

func lines(at []dockerfile.Range) string {
	if len(at) == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d)", at[0].First)
}
