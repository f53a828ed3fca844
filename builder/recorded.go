package builder

import (
	"cmp"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/report"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/registry/reference"
)

// announce gives the targets to the recorder as they are before they are planned.
func (s *Session) announce(targets []Target) {
	var all []report.Target
	for _, t := range targets {
		file := "Dockerfile"
		if t.Dockerfile != "" {
			file = filepath.Base(t.Dockerfile)
		}
		all = append(all, report.Target{
			Name: t.Name, Dockerfile: file, Context: source.Redact(t.Context), Stage: t.Stage, Folder: folderOf(t.Context), Wanted: t.wanted(),
		})
	}
	s.Recorder.Planned(all, nil)
}

// record gives the targets and their inputs to the recorder.
func (b *build) record() {
	if b.session.Recorder == nil {
		return
	}
	var targets []report.Target
	var inputs []report.Input
	add := func(in report.Input) {
		if !slices.ContainsFunc(inputs, func(old report.Input) bool {
			return old.Kind == in.Kind && old.Name == in.Name && old.Digest == in.Digest
		}) {
			inputs = append(inputs, in)
		}
	}
	for _, p := range b.targets {
		t := report.Target{Name: p.Name, Dockerfile: p.inputs.File.Name, Context: source.Redact(p.Context), Stage: p.Stage, Folder: folderOf(p.Context), Wanted: p.wanted(), Revision: p.inputs.Revision()}
		for _, name := range slices.Sorted(maps.Keys(p.Args)) {
			value := p.Args[name]
			t.Args = append(t.Args, report.Arg{Name: name, Value: &value})
		}
		for _, made := range p.plans {
			t.Images = append(t.Images, p.plannedImage(made))
		}
		targets = append(targets, t)
		add(report.Input{Kind: "context", Name: mainContext(p)})
		for _, c := range p.Contexts {
			add(report.Input{Kind: "context", Name: namedContext(c.Name, c.Value)})
		}
		for _, s := range p.ownSteps() {
			if in, ok := stepInput(s); ok {
				add(in)
			}
		}
	}
	b.session.Recorder.Planned(targets, inputs)
}

// wanted returns the tags that a target is to set: none if only others use it.
func (t *Target) wanted() (names []string) {
	if len(t.Outputs) > 0 && !slices.ContainsFunc(t.Outputs, func(o Output) bool { return o.Type != "cacheonly" }) {
		return nil
	}
	for _, ref := range t.Tags {
		names = append(names, reference.Familiar(ref))
	}
	return names
}

// folderOf returns the name of the directory of a context, "" if it is not a directory.
func folderOf(context string) string {
	if context == "" || context == "-" || strings.Contains(context, "://") {
		return ""
	}
	abs, err := filepath.Abs(context)
	if err != nil {
		return ""
	}
	return filepath.Base(abs)
}

// stepInput returns the input that a step fetches.
func stepInput(s *solve.Step) (report.Input, bool) {
	o, err := op.Decode(s)
	if err != nil {
		return report.Input{}, false
	}
	switch o := o.(type) {
	case op.Image:
		in := report.Input{Kind: "image", Name: reference.Familiar(o.Extra.Ref), Digest: string(o.Extra.Digest)}
		for _, l := range o.Extra.Layers {
			in.Size += l.Size
		}
		return in, true
	case op.Git:
		name := o.Remote
		if o.Ref != "" {
			name += "#" + o.Ref
		}
		return report.Input{Kind: "git", Name: name, Digest: o.Checksum}, true
	case op.HTTP:
		return report.Input{Kind: "http", Name: o.URL, Digest: string(o.Digest)}, true
	}
	return report.Input{}, false
}

// plannedImage returns the layers that an image will have, without sizes.
func (p *planned) plannedImage(made *plan.Plan) report.Image {
	img := report.Image{Platform: made.Platform.String()}
	if p.squashes() {
		return img
	}
	at := map[int]int{} // entry of the history -> layer
	for i, h := range made.Config.History {
		if h.EmptyLayer {
			continue
		}
		at[i] = len(img.Layers)
		img.Layers = append(img.Layers, report.Layer{})
	}
	if made.Base != nil {
		for i := range min(len(made.Base.Layers), len(img.Layers)) {
			img.Layers[i].Base = true
		}
	}
	for _, info := range made.Steps {
		if i, ok := at[info.History]; ok && p.exported[info.Step] && !img.Layers[i].Base {
			img.Layers[i].Step = info.Name
		}
	}
	return img
}

// record gives the steps to the recorder, and keeps them in the store for the next build.
func (a *attempt) record() {
	if a.worker == nil {
		return
	}
	a.keepSteps()
	if a.session.Recorder == nil {
		return
	}
	var steps []report.Step
	needs := a.needs()
	seen := map[*solve.Step]bool{}
	for _, p := range a.targets {
		for _, info := range p.steps() {
			s := info.Step
			number := a.worker.Number(s)
			if seen[s] || number == 0 {
				continue
			}
			seen[s] = true
			used := a.worker.Used(s)
			step := report.Step{ID: number, Kind: "step", CPU: used.CPU.Seconds(), Memory: used.Memory, Stage: info.Stage, File: p.inputs.File.Name, Needs: needs(s), Changed: a.worker.Changed(s)}
			if len(info.Ranges) > 0 {
				step.Line = info.Ranges[0].First
			}
			for _, owner := range a.owners[s] {
				if owner.Name != "" {
					step.Targets = append(step.Targets, owner.Name)
				}
			}
			if miss := a.worker.Miss(s); miss != nil {
				step.Reason = &report.Reason{Cause: string(miss.Cause), Text: miss.Brief, Below: miss.Below, Files: miss.Files, More: miss.More}
			}
			steps = append(steps, step)
		}
	}
	var caches []report.Input
	hits := a.worker.Hits()
	for _, from := range a.session.CacheFrom {
		caches = append(caches, report.Input{Kind: "cache", Name: source.Redact(from.String()), Hits: hits[from.String()]})
	}
	a.session.Recorder.Solved(steps, append(a.readContexts(), caches...))
}

// readContexts returns the contexts of the targets with the files that steps have read.
func (a *attempt) readContexts() (list []report.Input) {
	add := func(p *planned, input, name string) {
		if c := p.inputs.Count(name); c.Files > 0 {
			list = append(list, report.Input{Kind: "context", Name: input, Files: c.Files, Size: c.Bytes})
		}
	}
	for _, p := range a.targets {
		add(p, mainContext(p), "")
		for _, c := range p.Contexts {
			add(p, namedContext(c.Name, c.Value), c.Name)
		}
	}
	return list
}

// mainContext returns the name of the main context of a target in reports.
func mainContext(p *planned) string { return cmp.Or(source.Redact(p.Context), "none") }

// namedContext returns the name of an additional context in reports.
func namedContext(name, value string) string { return name + "=" + source.Redact(value) }

// needs returns a function that returns the numbers of the displayed steps that a step
// uses.
func (a *attempt) needs() func(*solve.Step) []int {
	known := map[*solve.Step][]int{}
	var visit func(*solve.Step) []int
	visit = func(s *solve.Step) []int {
		if all, ok := known[s]; ok {
			return all
		}
		all := []int{}
		for _, in := range s.In {
			found := []int{a.worker.Number(in.Step)}
			if found[0] == 0 {
				found = visit(in.Step)
			}
			for _, n := range found {
				if !slices.Contains(all, n) {
					all = append(all, n)
				}
			}
		}
		known[s] = all
		return all
	}
	return visit
}

// pastKey returns the key of the steps that the last build of the same targets had.
func (b *build) pastKey() string {
	var key strings.Builder
	key.WriteString("steps of the last build")
	for _, p := range b.targets {
		context := p.Context
		if abs, err := filepath.Abs(context); err == nil && context != "-" && !strings.Contains(context, "://") {
			context = abs
		}
		for _, part := range []string{p.Name, context, p.inputs.File.Name, p.Stage} {
			key.WriteString("\x00" + part)
		}
		for _, made := range p.plans {
			key.WriteString("\x00" + made.Platform.String())
		}
	}
	return key.String()
}

// maxPast is the maximum size of the steps that are kept for the next build.
const maxPast = 8 << 20

// past returns the steps of the last build of the same targets.
func (a *attempt) past() (all []cache.Past) {
	text, err := a.session.Store.Hint(a.pastKey())
	if err != nil || json.Unmarshal(text, &all) != nil {
		return nil
	}
	return all
}

// keepSteps stores the steps for the next build, which explains with them why a step ran
// again. Without them it just cannot.
func (a *attempt) keepSteps() {
	if text, err := json.Marshal(a.worker.Past()); err == nil && len(text) <= maxPast {
		_ = a.session.Store.PutHint(a.pastKey(), text)
	}
}
