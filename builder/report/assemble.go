package report

import (
	"cmp"
	"crypto/rand"
	"encoding/base32"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/progress/termtext"
)

// NewID returns an ID for a build: eight random letters and digits.
func NewID() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // it never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// End describes the end of a build.
type End struct {
	ID, Command, Cairn string
	Result             Result
	Failure            *Failure // its Step is found by its name
	Log                LogMode
}

// LogMode is the part of the output of steps that a report has.
type LogMode string

// The modes.
const (
	LogNone LogMode = "none"
	LogTail LogMode = "tail"
	LogAll  LogMode = "all"
)

// tailLines is the number of lines of output of each step with LogTail.
const tailLines = 200

// maxLine is the number of bytes of a line of output that a report has.
const maxLine = 4 << 10

// Finish returns the build that has ended. The timeline is that of its display.
func (r *Recorder) Finish(t progress.Timeline, end End) *Build {
	b := &Build{
		Findings: []Finding{}, Targets: []Target{}, Steps: []Step{}, Critical: []int{}, Inputs: []Input{}, Warnings: []Warning{},
		Version: Version, ID: end.ID, Command: end.Command, Cairn: end.Cairn, Result: end.Result, Failure: end.Failure,
		Started: t.Start.UTC().Truncate(time.Millisecond), Duration: seconds(t.End.Sub(t.Start)),
	}
	known := map[int]Step{}
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		b.Targets, b.Inputs = append(b.Targets, r.targets...), append(b.Inputs, r.inputs...)
		for i := range b.Targets {
			b.planned = append(b.planned, b.Targets[i].Images)
			b.Targets[i].Images = nil
		}
		for _, s := range r.steps {
			known[s.ID] = s
		}
	}
	parts := map[string][]Part{}
	for _, p := range t.Periods {
		if p.Lane != p.Name { // else it is the step itself
			parts[p.Lane] = append(parts[p.Lane], Part{p.Kind == progress.Wait, p.Name, seconds(p.Start.Sub(t.Start)), seconds(p.End.Sub(t.Start))})
		}
	}
	for _, a := range t.Activities {
		s, isStep := known[a.Number]
		if !isStep {
			s = Step{ID: a.Number, Kind: kindOf(a.Name)}
		}
		s.Name, s.Start, s.End = a.Name, seconds(a.Start.Sub(t.Start)), seconds(a.End.Sub(t.Start))
		s.State = stateOf(a)
		if s.State != StateRan && s.State != StateFailed {
			s.Reason = nil
		}
		if a.Err != nil {
			s.Error = a.Err.Error()
		}
		s.Parts = parts[a.Name]
		slices.SortStableFunc(s.Parts, func(a, b Part) int { return cmp.Compare(a.Start, b.Start) })
		s.Log, s.LogCut = logOf(a, end.Log)
		for _, m := range a.Transfers {
			s.Moved += m.Bytes
		}
		b.count(&s)
		b.Steps = append(b.Steps, s)
	}
	for _, w := range t.Warnings {
		b.Warnings = append(b.Warnings, Warning{Text: w})
	}
	b.completeFailure()
	return b
}

func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}

// kindOf returns the kind of an activity that is no step of a Dockerfile.
func kindOf(name string) string {
	word, _, _ := strings.Cut(name, " ")
	switch {
	case strings.Contains(name, "internal]"):
		return "internal"
	case word == "fetching" || word == "pulling" || word == "importing":
		return "pull"
	case word == "pushing":
		return "push"
	case word == "exporting":
		return "export"
	}
	return "other"
}

func stateOf(a progress.Activity) State {
	switch {
	case a.Canceled:
		return StateCanceled
	case a.Err != nil:
		return StateFailed
	case a.Cached:
		return StateCached
	}
	return StateRan
}

// count adds the transfers of a step to those of the build.
func (b *Build) count(s *Step) {
	switch s.Kind {
	case "push":
		b.Pushed += s.Moved
	case "pull", "step": // the transfers of a step are those of its base image or download
		b.Pulled += s.Moved
	}
}

// logOf returns the lines of output of an activity, and whether earlier ones are missing.
func logOf(a progress.Activity, mode LogMode) (lines []string, cut bool) {
	text := strings.TrimSuffix(string(a.Log), "\n")
	if mode == LogNone || text == "" {
		return nil, false
	}
	cut = a.Dropped > 0
	if cut { // the first line is probably incomplete
		_, text, _ = strings.Cut(text, "\n")
	}
	lines = strings.Split(text, "\n")
	if mode != LogAll && a.Err == nil && len(lines) > tailLines {
		lines, cut = lines[len(lines)-tailLines:], true
	}
	for i, line := range lines {
		lines[i] = plainLine(line)
	}
	return lines, cut
}

// plainLine returns a line of output as a terminal would show it, without colours.
func plainLine(line string) string {
	line = termtext.Rendered(strings.ToValidUTF8(line, "\uFFFD"))
	if len(line) > maxLine {
		line = strings.ToValidUTF8(line[:maxLine], "") + "…"
	}
	return line
}

// completeFailure finds the step that failed and its output.
func (b *Build) completeFailure() {
	f := b.Failure
	if f == nil {
		return
	}
	for i := range b.Steps {
		s := &b.Steps[i]
		if s.State == StateFailed && (f.Step == 0 || s.Name == f.Name) {
			f.Step = s.ID
			if f.Name == "" {
				f.Name = s.Name
			}
			if s.Name == f.Name {
				f.Log = s.Log
			}
		}
	}
	if len(f.Log) > tailLines {
		f.Log = f.Log[len(f.Log)-tailLines:]
	}
}
