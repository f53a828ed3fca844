package report

import (
	"math"
	"slices"
	"strings"
)

// timeline is the drawing of a build. Lengths are in the units of the drawing.
type timeline struct {
	Width, Height float64
	Left          float64 // where time begins
	Ticks         []tick
	Bands         []band
	Lanes         []lane
	More          int // steps without a lane
}

type tick struct {
	X     float64
	Label string
}

// band is the background of the lanes of a stage.
type band struct{ Y, Height float64 }

type lane struct {
	*Step
	Y        float64
	Label    string
	Critical bool
	Bars     []bar
}

// bar is a period in a lane. Its class is ran, cached, failed, pulled, pushed, waited or
// later: work on the layer after the step.
type bar struct {
	Class    string
	X, Width float64
	Thin     bool
	Title    string
}

const (
	laneHeight = 20.0
	axisHeight = 24.0
	labelWidth = 300.0
	timeWidth  = 880.0
	maxLabel   = 44  // runes
	leastBar   = 1.5 // the width of the shortest bar
	maxParts   = 12  // bars of the waits of a step
)

func newTimeline(b *Build, critical map[int]bool) timeline {
	t := timeline{Left: labelWidth, Width: labelWidth + timeWidth + 20}
	total := b.Duration
	for i := range b.Steps {
		total = max(total, b.Steps[i].End)
	}
	if total <= 0 {
		total = 0.001
	}
	scale := timeWidth / total
	steps := mostImportant(b.Steps, critical, maxLanes)
	t.More = len(b.Steps) - len(steps)
	steps = byStage(steps)
	for i, s := range steps {
		l := lane{Step: s, Y: axisHeight + float64(i)*laneHeight, Label: label(s.Name), Critical: critical[s.ID]}
		l.addBars(scale)
		if i == 0 || s.Stage != steps[i-1].Stage {
			t.Bands = append(t.Bands, band{Y: l.Y})
		}
		t.Bands[len(t.Bands)-1].Height += laneHeight
		t.Lanes = append(t.Lanes, l)
	}
	t.Height = axisHeight + float64(len(steps))*laneHeight + 4
	for at, every := 0.0, interval(total); at <= total; at += every {
		t.Ticks = append(t.Ticks, tick{labelWidth + at*scale, clock(at)})
	}
	return t
}

// byStage puts the steps of a stage together, stages in the order of their first step.
func byStage(steps []*Step) []*Step {
	first := map[string]int{}
	for i, s := range steps {
		if _, ok := first[s.Stage]; !ok {
			first[s.Stage] = i
		}
	}
	out := slices.Clone(steps)
	slices.SortStableFunc(out, func(a, b *Step) int { return first[a.Stage] - first[b.Stage] })
	return out
}

func label(name string) string {
	runes := []rune(visible(name))
	if len(runes) > maxLabel {
		return string(runes[:maxLabel-1]) + "…"
	}
	return string(runes)
}

func (l *lane) addBars(scale float64) {
	s := l.Step
	add := func(class string, start, end float64, thin bool, title string) {
		l.Bars = append(l.Bars, bar{class, labelWidth + start*scale, max((end-start)*scale, leastBar), thin, title})
	}
	parts := 0
	for _, p := range s.Parts {
		if parts == maxParts {
			break
		}
		switch {
		case p.Wait && p.End <= s.Start+0.001:
			parts++
			add("waited", p.Start, min(p.End, s.Start), true, visible(p.Name)+", "+clock(p.End-p.Start))
		case !p.Wait && p.Start >= s.End-0.001:
			parts++
			add("later", p.Start, p.End, true, visible(p.Name)+", "+clock(p.End-p.Start))
		}
	}
	add(barClass(s), s.Start, s.End, false, visible(s.Name)+", "+string(s.State)+", "+clock(s.Duration()))
}

func barClass(s *Step) string {
	switch {
	case s.State == StateFailed:
		return "failed"
	case s.State == StateCached:
		return "cached"
	case s.Kind == "pull" || s.Kind == "internal" && strings.Contains(s.Name, "metadata"):
		return "pulled"
	case s.Kind == "push":
		return "pushed"
	case s.State == StateCanceled:
		return "waited"
	}
	return "ran"
}

// interval returns the time between two ticks of the axis: 1, 2 or 5 times a power of ten.
func interval(total float64) float64 {
	raw := total / 8
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, n := range []float64{1, 2, 5} {
		if raw <= n*power {
			return n * power
		}
	}
	return 10 * power
}

// Striped reports whether band i has a background.
func (band) Striped(i int) bool { return i%2 == 1 }

// TextY is the baseline of the label.
func (l lane) TextY() float64 { return l.Y + 14 }

// BarY is the top of a bar of the lane.
func (l lane) BarY(b bar) float64 {
	if b.Thin {
		return l.Y + 8
	}
	return l.Y + 4
}
