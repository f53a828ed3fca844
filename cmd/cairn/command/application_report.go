package command

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	units "github.com/docker/go-units"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

// printResults prints the warnings of the linter, the names that were set, and a table of
// the targets. There are no names and no table if the build ended before all targets
// were finished.
func (a *application) printResults(built []*builder.Built) {
	finished := len(built) > 0
	for _, one := range built {
		printLintWarnings(a.Stderr, one.Warnings)
		finished = finished && (one.Err != nil || one.Digest() != "")
	}
	if !finished {
		return
	}
	for i, one := range built {
		if one.Err == nil {
			a.printNames(i, one)
		}
	}
	table := tabwriter.NewWriter(a.Stderr, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "TARGET\tPLATFORMS\tDIGEST\tSIZE\tTIME\tSTEPS")
	for _, one := range built {
		if one.Err != nil {
			fmt.Fprintf(table, "%s\t\t%s\t\t%s\t%s\n", one.Name, failure(one), shortTime(one.Elapsed), stepsOf(one.Steps))
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", one.Name, builtPlatforms(one), shortDigest(one.Digest()),
			units.HumanSize(float64(builtSize(one))), shortTime(one.Elapsed), stepsOf(one.Steps))
	}
	_ = table.Flush() // standard error
}

// printNames prints the references that were pushed or tagged.
func (a *application) printNames(i int, built *builder.Built) {
	pushed := map[string]bool{}
	for _, ref := range built.Pushed {
		pushed[ref] = true
		fmt.Fprintf(a.Stderr, "pushed %s\n", reference.Familiar(ref))
	}
	if a.targets[i].options.NoStore {
		return
	}
	for _, ref := range built.Tags {
		if !pushed[ref] {
			pushed[ref] = true // once
			fmt.Fprintf(a.Stderr, "tagged %s\n", reference.Familiar(ref))
		}
	}
}

// failure says why there is no image of a target.
func failure(built *builder.Built) string {
	if cause := causeOf(built.Err); cause != built.Name && cause != "" {
		return "needs " + cause
	}
	return "failed"
}

func builtPlatforms(built *builder.Built) string {
	images := []layer.Image{built.Image}
	if built.Index != nil {
		images = built.Index.Images
	}
	var names []string
	for _, img := range images {
		if p := platformOf(img); p != nil {
			names = append(names, p.String())
		}
	}
	return strings.Join(names, ",")
}

// builtSize returns the size of the layers, configs and manifests of all platforms.
func builtSize(built *builder.Built) int64 {
	images := []layer.Image{built.Image}
	if built.Index != nil {
		images = built.Index.Images
	}
	size := layer.SizeOf(images...)
	for _, img := range images {
		size += int64(len(img.Config) + len(img.Manifest))
	}
	return size
}

func shortDigest(d layer.Digest) string { return "sha256:" + d.Hex()[:12] }

func shortTime(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// stepsOf returns the numbers of steps, as in "3 run, 1 shared, 4 cached".
func stepsOf(n builder.StepCount) string {
	var parts []string
	for _, p := range []struct {
		n    int
		name string
	}{{n.Ran, "run"}, {n.Shared, "shared"}, {n.Cached, "cached"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.name))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
