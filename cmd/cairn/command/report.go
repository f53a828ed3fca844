package command

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

// Report writes an error for people: after a failed step the last lines of its
// output, and the lines of the Dockerfile that it is about. A terminal gets the error
// and its lines in red. There the command of the step is not repeated: the progress and
// the lines of the Dockerfile have it.
func Report(w io.Writer, err error) {
	printError(w, err, isTerminal(w), os.Getenv("NO_COLOR") == "")
}

func printError(w io.Writer, err error, terminal, color bool) {
	red := func(s string) string {
		if terminal && color {
			return "\x1b[1;31m" + s + "\x1b[0m"
		}
		return s
	}
	var step *builder.StepError
	if errors.As(err, &step) && len(step.Tail) > 0 {
		fmt.Fprintln(w, "------")
		if !terminal {
			fmt.Fprintf(w, " > %s:\n", termtext.Safe(step.Name))
		}
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
		for line := range strings.Lines(source.Redact(at.Excerpt())) {
			if strings.Contains(line, " | >>> ") {
				line = red(strings.TrimSuffix(line, "\n")) + "\n"
			}
			fmt.Fprint(w, line)
		}
	}
	text := err.Error()
	var exit *worker.ExitError
	if errors.As(err, &exit) && terminal {
		text = strings.Replace(text, exit.Error(), exit.Brief(), 1)
	}
	fmt.Fprintln(w, red("error: "+termtext.Safe(source.Redact(text))))
	var hinted interface{ Hint() string }
	switch {
	case step != nil && step.Hint != "":
		fmt.Fprintf(w, "hint: %s\n", termtext.Safe(step.Hint))
	case errors.As(err, &hinted):
		fmt.Fprintf(w, "hint: %s\n", termtext.Safe(hinted.Hint()))
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// summary describes the result of a build in one line, as in "built ui:1 (linux/amd64,
// 136 MB, 14 steps, 9 cached) in 21.8s".
func summary(built *builder.Built, took time.Duration) string {
	names := make([]string, 0, len(built.Tags))
	for _, ref := range built.Tags {
		names = append(names, reference.Familiar(ref))
	}
	all := []layer.Image{built.Image}
	if built.Index != nil {
		all = built.Index.Images
	}
	var facts []string
	for _, img := range all {
		if p := platformOf(img); p != nil {
			facts = append(facts, p.String())
		}
	}
	facts = append(facts, units.CustomSize("%.4g %s", float64(layer.SizeOf(all...)), 1000, []string{"B", "kB", "MB", "GB", "TB"}))
	steps := built.Steps.Ran + built.Steps.Shared + built.Steps.Cached
	if facts = append(facts, fmt.Sprintf("%d steps", steps)); steps == 1 {
		facts[len(facts)-1] = "1 step"
	}
	if built.Steps.Cached > 0 {
		facts = append(facts, fmt.Sprintf("%d cached", built.Steps.Cached))
	}
	return fmt.Sprintf("built %s (%s) in %.1fs", cmp.Or(strings.Join(names, ", "), "an image"), strings.Join(facts, ", "), took.Seconds())
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
