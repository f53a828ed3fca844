package builder

import (
	"context"
	"errors"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/worker"
)

// Graph is the graph of steps of several targets.
type Graph struct {
	Steps   []GraphStep
	Targets []GraphTarget
}

// GraphStep is a step.
type GraphStep struct {
	Name    string // "[build 2/4] RUN make"
	Targets []string
	Inputs  []int // indexes of steps
}

// GraphTarget is a target and the steps that make its images.
type GraphTarget struct {
	Name  string
	Roots []int // one for each platform with layers
}

// Graph plans targets and returns their steps without running any.
func (s *Session) Graph(ctx context.Context, targets ...Target) (*Graph, error) {
	b := s.newBuild()
	defer b.close()
	if err := b.planTargets(ctx, targets); err != nil {
		return nil, err
	}
	if err := b.unplanned(); err != nil {
		return nil, err
	}
	g := &graphMaker{names: map[*solve.Step]string{}, owners: map[*solve.Step][]string{}, at: map[*solve.Step]int{}}
	for _, p := range b.targets {
		for _, info := range p.steps() {
			if _, ok := g.names[info.Step]; !ok {
				g.names[info.Step] = info.Name
			}
		}
		seen := map[*solve.Step]bool{}
		for _, made := range p.plans {
			g.own(p.Name, made.Root, seen)
		}
	}
	for _, p := range b.targets {
		t := GraphTarget{Name: p.Name}
		for _, made := range p.plans {
			t.Roots = append(t.Roots, g.add(made.Root)...)
		}
		g.Targets = append(g.Targets, t)
	}
	return &g.Graph, nil
}

// graphMaker collects the steps that are displayed.
type graphMaker struct {
	Graph
	names  map[*solve.Step]string
	owners map[*solve.Step][]string
	at     map[*solve.Step]int
	inputs map[*solve.Step][]int // of steps that are not displayed
}

// own notes that a target needs a step and its inputs.
func (g *graphMaker) own(target string, s *solve.Step, seen map[*solve.Step]bool) {
	if s == nil || seen[s] {
		return
	}
	seen[s] = true
	g.owners[s] = append(g.owners[s], target)
	for _, in := range s.In {
		g.own(target, in.Step, seen)
	}
}

// add adds a step and its inputs, and returns its index, or those of its inputs if it is
// not displayed.
func (g *graphMaker) add(s *solve.Step) []int {
	if s == nil {
		return nil
	}
	if i, ok := g.at[s]; ok {
		return []int{i}
	}
	if in, ok := g.inputs[s]; ok {
		return in
	}
	inputs := []int{}
	seen := map[int]bool{}
	for _, in := range s.In {
		for _, i := range g.add(in.Step) {
			if !seen[i] {
				seen[i] = true
				inputs = append(inputs, i)
			}
		}
	}
	if g.names[s] == "" {
		if g.inputs == nil {
			g.inputs = map[*solve.Step][]int{}
		}
		g.inputs[s] = inputs
		return inputs
	}
	g.at[s] = len(g.Steps)
	g.Steps = append(g.Steps, GraphStep{Name: g.names[s], Targets: g.owners[s], Inputs: inputs})
	return []int{g.at[s]}
}

// Changed returns for each target the name of the first step whose result the store does
// not have for the present sources, or "" if it has all. Nothing is run.
func (s *Session) Changed(ctx context.Context, targets ...Target) ([]string, error) {
	b := s.newBuild()
	defer b.close()
	if err := b.planTargets(ctx, targets); err != nil {
		return nil, err
	}
	all := make([]string, len(b.all))
	if len(b.targets) > 0 {
		if err := b.changed(ctx, all); err != nil {
			return nil, err
		}
	}
	for i, p := range b.all {
		if p.err != nil {
			all[i] = "it cannot be planned"
		}
	}
	return all, nil
}

// changed sets the names of the first steps that are not known.
func (b *build) changed(ctx context.Context, names []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &attempt{build: b, ctx: ctx, errs: make([]error, len(b.targets))}
	b.cacheMounts = &cacheMountImports{session: b.session}
	o := a.workerOptions()
	o.Exporter = nil
	a.worker = worker.New(ctx, o)
	a.solver = solve.New[*worker.Result](ctx, a.worker)
	known := cache.New(b.session.Store)
	for i, p := range b.all {
		if p.err != nil {
			continue
		}
		step, err := a.firstUnknown(p, known)
		if err != nil {
			return errors.Join(err, a.worker.Wait())
		}
		names[i] = step
	}
	return a.worker.Wait()
}

// firstUnknown returns the name of the first step of a target without a record, unless
// the store has the results of all its roots.
func (a *attempt) firstUnknown(p *planned, known *cache.Cache) (string, error) {
	has := func(s *solve.Step) (bool, error) {
		if s == nil || worker.IsRoot(s) || op.Fetched(s) {
			return true, nil
		}
		if s.NoCache {
			return false, nil
		}
		key, err := a.solver.Key(s)
		if err != nil {
			return false, a.explain(a.ctx, err)
		}
		_, err = known.Get(string(key))
		return err == nil, nil
	}
	complete := true
	for _, made := range p.plans {
		ok, err := has(made.Root)
		if err != nil {
			return "", err
		}
		complete = complete && ok
	}
	if complete {
		return "", nil
	}
	for _, info := range p.steps() {
		if ok, err := has(info.Step); err != nil || !ok {
			return info.Name, err
		}
	}
	return "a target that it builds on", nil
}
