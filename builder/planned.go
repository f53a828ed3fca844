package builder

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

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
	index       int // among the targets that are built
	session     *Session
	bases       baseImages
	credentials *credentials
	inputs      *input.Inputs
	linkTold    sync.Map // references that are known to be other targets

	done     chan struct{}        // closed when the target is planned
	err      error                // of opening the inputs or of planning
	plans    []*plan.Plan         // one for each platform
	exported map[*solve.Step]bool // steps whose layers are in the images
	warnings []dockerfile.Warning
}

// open finds the inputs of a target and parses its Dockerfile. isTarget, unless nil,
// reports whether there is another target of a name.
func (s *Session) open(ctx context.Context, t Target, isTarget func(string) bool) (*planned, error) {
	if err := t.Normalize(); err != nil {
		return nil, err
	}
	if p := (&planned{Target: t}); (t.Squash || t.SquashAll) && s.wantsInlineCache(p) {
		return nil, errors.New("--squash and an inline cache exclude each other: the merged layer is the result of no step")
	}
	p := &planned{Target: t, session: s, bases: baseImages{Manager: s.images, pull: t.Pull, newer: t.PullNewer, never: t.PullNever}, credentials: s.own}
	var err error
	if t.Credentials != nil {
		if p.credentials, err = s.newCredentials(*t.Credentials); err != nil {
			return nil, err
		}
	}
	r := t.inputRequest()
	r.FullName, r.IsTarget = p.bases.fullName, isTarget
	if isTarget != nil {
		r.Scope = t.Name
	}
	if p.inputs, err = p.credentials.sources.Open(ctx, r); err != nil {
		p.closeCredentials()
		return nil, err
	}
	p.inputs.File.Override(t.From, t.Env)
	return p, nil
}

func (p *planned) close() {
	p.inputs.Close()
	p.closeCredentials()
}

func (p *planned) closeCredentials() {
	if p.credentials != p.session.own {
		p.credentials.close()
	}
}

// input returns the input of the plan.
func (p *planned) input() plan.Input {
	in := p.planInput(p.inputs)
	in.Full, in.Base = p.bases.fullName, p.bases.resolve
	return in
}

// plan makes the steps for each platform, and shares them with the plans of other
// targets.
func (p *planned) plan(ctx context.Context, b *build) error {
	in := p.input()
	in.Linked = func(ctx context.Context, name string, platform layer.Platform) (*plan.Plan, error) {
		return b.linked(ctx, p, name, platform)
	}
	if len(b.links.byTag) > 0 {
		in.TargetOf = func(ref string) string { return b.tagged(p, ref) }
	}
	var err error
	if p.plans, err = plan.MakeEach(ctx, in, p.platforms()); err != nil {
		return err
	}
	if err := p.openContexts(ctx, b); err != nil {
		return err
	}
	if err := b.share(p); err != nil {
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
	return p.Check(platforms)
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

// ownSteps returns the steps of a target before they are shared, without those of the
// targets that it builds on.
func (p *planned) ownSteps() (all []*solve.Step) {
	seen := map[*solve.Step]bool{}
	for _, made := range p.plans {
		for _, root := range made.Linked {
			seen[root] = true
		}
	}
	var visit func(s *solve.Step)
	visit = func(s *solve.Step) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		for _, in := range s.In {
			visit(in.Step)
		}
		all = append(all, s)
	}
	for _, made := range p.plans {
		visit(made.Root)
	}
	return all
}

// openContext opens a named context, or that of a volume.
func (p *planned) openContext(ctx context.Context, name string) (*source.Dir, error) {
	if dir, ok := strings.CutPrefix(name, plan.VolumeContext); ok {
		return p.inputs.OpenVolume(dir)
	}
	return p.inputs.OpenNamed(ctx, name)
}

// openContexts opens the contexts that the steps use, and names the steps of equal
// contexts alike.
func (p *planned) openContexts(ctx context.Context, b *build) error {
	opened := map[string]string{"": b.contextName(p.inputs.Context())}
	for _, s := range p.ownSteps() {
		if op.Kind(s) != "context" {
			continue
		}
		o, err := op.Decode(s)
		if err != nil {
			return err
		}
		c, ok := o.(op.Context)
		if !ok {
			return fmt.Errorf("step of kind context is a %T", o)
		}
		if _, ok := opened[c.Name]; !ok {
			dir, err := p.openContext(ctx, c.Name)
			if err != nil {
				return err
			}
			opened[c.Name] = b.contextName(dir)
		}
		s.Op = op.NewStep(op.Context{Name: opened[c.Name]}).Op
	}
	return nil
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
