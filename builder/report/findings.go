package report

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/docker/go-units"
)

// maxFindings is the number of findings that a report has.
const maxFindings = 5

// Smaller costs are no finding.
const (
	leastSeconds = 0.5
	leastBytes   = 1 << 20
)

// Analyze computes the critical path and the findings from the rest of the build.
func (b *Build) Analyze() {
	b.setCritical()
	all := slices.Concat(b.reruns(), b.waste(), b.transfers(), b.starved(), b.bigLayers(), b.slowest())
	slices.SortStableFunc(all, func(x, y Finding) int { return cmp.Compare(y.cost(), x.cost()) })
	b.Findings = append([]Finding{}, all[:min(len(all), maxFindings)]...)
}

// cost compares seconds with bytes, which have to be stored and transferred.
func (f Finding) cost() float64 { return f.Seconds + float64(f.Bytes)/20e6 }

// reruns finds the changes that made steps run, and how long these took.
func (b *Build) reruns() (all []Finding) {
	at := map[int]*Step{}
	for i := range b.Steps {
		at[b.Steps[i].ID] = &b.Steps[i]
	}
	type chain struct {
		steps   []*Step
		seconds float64
	}
	roots := map[int]*chain{}
	var order []*Step
	for i := range b.Steps {
		s := &b.Steps[i]
		root := rootOf(s, at)
		if root == nil {
			continue
		}
		c, ok := roots[root.ID]
		if !ok {
			c = &chain{}
			roots[root.ID] = c
			order = append(order, root)
		}
		c.steps = append(c.steps, s)
		c.seconds += s.Duration()
	}
	for _, root := range order {
		c := roots[root.ID]
		if c.seconds < leastSeconds {
			continue
		}
		f := Finding{Kind: "rerun", Step: root.ID, Seconds: c.seconds}
		f.Text = fmt.Sprintf("%s, so %s ran again and took %s", root.Reason.counted(root.Changed), stepNames(c.steps), clock(c.seconds))
		f.Advice = advise(root, c.steps)
		all = append(all, f)
	}
	return all
}

// rootOf returns the step whose own change made a step run, or nil.
func rootOf(s *Step, at map[int]*Step) *Step {
	for seen := 0; s != nil && s.Reason != nil && seen < len(at); seen++ {
		if s.Reason.Cause == "new" || s.Reason.Text == "" {
			return nil
		}
		if !s.Reason.Below || len(s.Needs) == 0 {
			return s
		}
		next := at[s.Needs[0]]
		if next == nil || next.Reason == nil {
			return s
		}
		s = next
	}
	return nil
}

// counted returns the text of a reason with the number of files, as in "package.json
// changed (1 of 812 files)".
func (r *Reason) counted(entries int) string {
	n := len(r.Files) + r.More
	if r.Cause == "files" && n > 0 && entries > n {
		return fmt.Sprintf("%s (%d of %d files)", r.Text, n, entries)
	}
	return r.Text
}

func stepNames(all []*Step) string {
	if len(all) == 1 {
		return shortName(all[0].Name)
	}
	return fmt.Sprintf("%s and %d more", shortName(all[0].Name), len(all)-1)
}

// maxName is the number of runes of a step's name in a sentence.
const maxName = 60

func shortName(name string) string {
	if runes := []rune(name); len(runes) > maxName {
		return string(runes[:maxName-1]) + "…"
	}
	return name
}

// installs matches commands that install the packages of a lock file.
var installs = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\b(npm (ci|i|install)|yarn|pnpm (i|install)|bun install|pip3? install|uv sync|poetry install|bundle install|composer install|go mod download|cargo (fetch|build)|mvn|gradle|dotnet restore)\b`)
})

// copiesAll matches a COPY of the whole context.
var copiesAll = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\] (COPY|ADD)( --\S+)* \./? `) })

// advise returns a remedy for steps that ran because of a change.
func advise(root *Step, chain []*Step) string {
	if root.Reason.Cause == "no-cache" {
		return "leave out --no-cache, or name the stages that need it with --no-cache-filter"
	}
	if root.Reason.Cause != "files" || !copiesAll().MatchString(root.Name) {
		return ""
	}
	for _, s := range chain {
		if s != root && installs().MatchString(s.Name) {
			return fmt.Sprintf("copy the lock file alone before %s, and the other files after it: then it runs only if the lock file changes", shortName(s.Name))
		}
	}
	return "exclude files that the build does not need by .dockerignore, or copy fewer files at once"
}

// waste finds the layers whose files a later layer replaces or removes.
func (b *Build) waste() (all []Finding) {
	for _, t := range b.Targets {
		for _, img := range t.Images {
			type pair struct{ written, hidden int }
			sums := map[pair]int64{}
			for _, p := range img.Waste.Paths {
				sums[pair{p.Written, p.Hidden}] += p.Size
			}
			for at, bytes := range sums {
				by, hider := img.Layers[at.written], img.Layers[at.hidden]
				if bytes < leastBytes || by.Base {
					continue // the base is not of this Dockerfile
				}
				all = append(all, Finding{
					Kind: "waste", Bytes: bytes,
					Text:   fmt.Sprintf("%s written by %s are replaced or removed by %s, and stay in the image", size(bytes), layerName(by), layerName(hider)),
					Advice: "remove or change the files in the step that writes them, or write them in another stage",
				})
			}
		}
	}
	slices.SortFunc(all, func(a, b Finding) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Text, b.Text)) })
	return slices.CompactFunc(all, func(a, b Finding) bool { return a.Text == b.Text }) // platforms
}

func layerName(l Layer) string {
	switch {
	case l.Base:
		return "the base image"
	case l.Step == "":
		return "a layer"
	}
	return shortName(l.Step)
}

// transfers finds large pulls.
func (b *Build) transfers() []Finding {
	var moved int64
	var start, end float64
	for _, s := range b.Steps {
		if (s.Kind == "pull" || s.Kind == "step") && s.Moved > 0 {
			if moved == 0 {
				start = s.Start
			}
			moved += s.Moved
			start, end = min(start, s.Start), max(end, s.End)
		}
	}
	if moved < 10*leastBytes || end-start < leastSeconds {
		return nil
	}
	return []Finding{{
		Kind: "pull", Seconds: end - start, Text: fmt.Sprintf("%s were pulled within %s", size(moved), clock(end-start)),
		Advice: "keep the store between builds, use a smaller base image, or a mirror that is near (--registry-mirror)",
	}}
}

// starved finds out how long steps waited for a processor.
func (b *Build) starved() []Finding {
	var steps int
	var waited float64
	for _, s := range b.Steps {
		var own float64
		for _, p := range s.Parts {
			if p.Wait && strings.Contains(p.Name, "--jobs") {
				own += p.End - p.Start
			}
		}
		if own > 0 {
			steps++
			waited += own
		}
	}
	if waited < leastSeconds {
		return nil
	}
	return []Finding{{
		Kind: "jobs", Seconds: waited, Text: fmt.Sprintf("%s waited %s for a processor", count(steps, "step"), clock(waited)),
		Advice: "use a machine with more processors, or --jobs if the steps mostly wait",
	}}
}

// bigLayers finds a layer that is more than half of a big image.
func (b *Build) bigLayers() (all []Finding) {
	for _, t := range b.Targets {
		for _, img := range t.Images {
			for _, l := range img.Layers {
				if l.Base || l.Size < 50*leastBytes || l.Size*2 < img.Size {
					continue
				}
				f := Finding{Kind: "layer", Bytes: l.Size / 4, Text: fmt.Sprintf("%s makes %s of the image's %s", layerName(l), size(l.Size), size(img.Size))}
				if len(l.Folders) > 0 {
					f.Advice = fmt.Sprintf("most of it is in %s (%s)", l.Folders[0].Path, size(l.Folders[0].Size))
				}
				all = append(all, f)
			}
		}
	}
	return all[:min(len(all), 1)]
}

// slowest finds the step that took more than half of the build's time.
func (b *Build) slowest() []Finding {
	for _, id := range b.Critical {
		for _, s := range b.Steps {
			if s.ID == id && s.State == StateRan && s.Duration() >= leastSeconds && s.Duration() > b.Duration/2 {
				return []Finding{{
					Kind: "slow", Step: id, Seconds: s.Duration() / 2,
					Text: fmt.Sprintf("%s took %s of the build's %s", shortName(s.Name), clock(s.Duration()), clock(b.Duration)),
				}}
			}
		}
	}
	return nil
}

// count returns a number with its noun, as in "1 step" and "2 steps".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func size(n int64) string {
	return units.CustomSize("%.3g %s", float64(n), 1000, []string{"B", "kB", "MB", "GB", "TB"})
}

// clock returns seconds for people, as in "0.3 s" or "2 min 5 s".
func clock(s float64) string {
	if s < 99.95 {
		return fmt.Sprintf("%.1f s", s)
	}
	n := int(s + 0.5)
	if n < 3600 {
		return fmt.Sprintf("%d min %d s", n/60, n%60)
	}
	return fmt.Sprintf("%d h %d min", n/3600, n/60%60)
}
