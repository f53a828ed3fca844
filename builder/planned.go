package builder

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/input"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
)

// planned is a target with its inputs and, once it is planned, its steps.
type planned struct {
	Target
	session *Session
	bases   baseImages
	inputs  *input.Inputs
	scope   string // of the names of contexts in steps

	plans    []*plan.Plan           // one for each platform
	exported map[*solve.Step]bool   // steps whose layers are in the images
	contexts map[string]*source.Dir // that the steps use, by name in steps
	warnings []dockerfile.Warning
}

// open finds the inputs of a target and parses its Dockerfile.
func (s *Session) open(ctx context.Context, t Target, scope string) (*planned, error) {
	if err := t.Normalize(); err != nil {
		return nil, err
	}
	if inline := t.wantsInlineCache() || slices.ContainsFunc(s.CacheTo, func(c CacheTo) bool { return c.Inline }); inline && (t.Squash || t.SquashAll) {
		return nil, errors.New("--squash and an inline cache exclude each other: the merged layer is the result of no step")
	}
	p := &planned{Target: t, session: s, bases: baseImages{s.images, t.Pull, t.PullNever}, scope: scope}
	r := t.inputRequest()
	r.FullName = p.bases.fullName
	var err error
	if p.inputs, err = s.sources.Open(ctx, r); err != nil {
		return nil, err
	}
	p.inputs.File.Override(t.From, t.Env)
	return p, nil
}

func (p *planned) close() { p.inputs.Close() }

// input returns the input of the plan.
func (p *planned) input() plan.Input {
	in := p.planInput(p.inputs)
	in.Full, in.Base, in.ContextScope = p.bases.fullName, p.bases.resolve, p.scope
	return in
}

// plan makes the steps for each platform, and shares them with the plans of other
// targets.
func (p *planned) plan(ctx context.Context, steps plan.Interner) error {
	var err error
	if p.plans, err = steps.MakeEach(ctx, p.input(), p.platforms()); err != nil {
		return err
	}
	p.exported = map[*solve.Step]bool{}
	var platforms []layer.Platform
	for _, made := range p.plans {
		p.warn(made.Warnings)
		if p.squashes() {
			addBase(made.Root, p.exported)
		} else {
			addExported(made.Root, p.exported)
		}
		platforms = append(platforms, made.Platform)
	}
	p.checkNoCacheFilter()
	if p.AlwaysIndex, err = p.MultiPlatform(); err != nil {
		return err
	}
	if err := p.Check(platforms); err != nil {
		return err
	}
	return p.openContexts(ctx)
}

// warn shows warnings of the linter. Warnings that several platforms share are shown
// once.
func (p *planned) warn(all []plan.Warning) {
	earlier := p.warnings // one platform may have the same warning twice
	for _, w := range all {
		if slices.ContainsFunc(earlier, func(old plan.Warning) bool { return reflect.DeepEqual(old, w) }) {
			continue
		}
		p.warnings = append(p.warnings, w)
		p.inputs.Definition.Advise(Advice(p.inputs.File, w))
	}
}

// addExported adds the steps whose layers are in the tree of root.
func addExported(root *solve.Step, to map[*solve.Step]bool) {
	for s := root; s != nil; {
		to[s] = true
		if len(s.In) == 0 {
			return
		}
		if op.Kind(s) == "stack" {
			to[s.In[1].Step] = true
		}
		s = s.In[0].Step
	}
}

// squashes reports whether layers are merged before the export.
func (p *planned) squashes() bool { return p.Squash || p.SquashAll }

// addBase adds the step of the image at the bottom of the tree of root. Layers of the
// other steps are not in an image whose layers are merged.
func addBase(root *solve.Step, to map[*solve.Step]bool) {
	for s := root; s != nil; s = s.In[0].Step {
		if op.Kind(s) == "image" {
			to[s] = true
		}
		if len(s.In) == 0 {
			return
		}
	}
}

// checkNoCacheFilter warns of stages in NoCacheFilter that are not built.
func (p *planned) checkNoCacheFilter() {
	for _, name := range p.NoCacheFilter {
		matches := func(s plan.StageInfo) bool {
			return strings.EqualFold(s.Name, name) || s.Index >= 0 && strings.EqualFold(p.inputs.File.Stages[s.Index].As, name)
		}
		built := slices.ContainsFunc(p.plans, func(made *plan.Plan) bool { return slices.ContainsFunc(made.Stages, matches) })
		if !built {
			p.session.Progress.Warn("--no-cache-filter: no stage that is built is called %s", name)
		}
	}
}

// openContexts opens the contexts that the steps use.
func (p *planned) openContexts(ctx context.Context) error {
	p.contexts = map[string]*source.Dir{p.scope: p.inputs.Context()}
	seen := map[*solve.Step]bool{}
	var visit func(s *solve.Step) error
	visit = func(s *solve.Step) error {
		if s == nil || seen[s] {
			return nil
		}
		seen[s] = true
		if op.Kind(s) == "context" {
			return p.openContext(ctx, s)
		}
		for _, in := range s.In {
			if err := visit(in.Step); err != nil {
				return err
			}
		}
		return nil
	}
	for _, made := range p.plans {
		if err := visit(made.Root); err != nil {
			return err
		}
	}
	return nil
}

// openContext opens the context of one step, unless it is open.
func (p *planned) openContext(ctx context.Context, s *solve.Step) error {
	o, err := op.Decode(s)
	if err != nil {
		return err
	}
	c, ok := o.(op.Context)
	if !ok {
		return fmt.Errorf("step of kind context is a %T", o)
	}
	if p.contexts[c.Name] != nil {
		return nil
	}
	p.contexts[c.Name], err = p.inputs.OpenNamed(ctx, strings.TrimPrefix(c.Name, p.scope))
	return err
}

// steps returns the steps that are displayed.
func (p *planned) steps() (all []*plan.StepInfo) {
	for _, made := range p.plans {
		all = append(all, made.Steps...)
	}
	return all
}

// Advice returns a warning of the linter as progress displays show it.
func Advice(f *dockerfile.File, w dockerfile.Warning) progress.Warning {
	out := progress.Warning{Level: 1, Short: []byte(w.String()), Detail: [][]byte{[]byte(w.Description)}, URL: w.URL}
	for _, r := range w.Ranges {
		out.Ranges = append(out.Ranges, progress.Span{Start: progress.Place{Line: r.First}, End: progress.Place{Line: r.Last}})
	}
	if len(w.Ranges) > 0 {
		out.Source = &progress.Source{Filename: f.Name, Data: []byte(source.Redact(string(f.Text))), Language: "Dockerfile"}
	}
	return out
}
