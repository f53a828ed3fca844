package plan

import (
	"context"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
)

// MakeEach plans a build for each of some platforms. Steps that are the same for
// several of them are one step: those of a stage for the machine that builds,
// until it looks at its target.
func MakeEach(ctx context.Context, in Input, platforms []layer.Platform) ([]*Plan, error) {
	in.MultiPlatform = len(platforms) > 1
	one := interner{}
	var plans []*Plan
	for _, p := range platforms {
		in.Platform = p
		made, err := Make(ctx, in)
		if err != nil {
			return nil, err
		}
		one.plan(made)
		plans = append(plans, made)
	}
	return plans, nil
}

// interner has the one step of each description.
type interner map[string]*solve.Step

func (n interner) plan(p *Plan) {
	seen := map[*solve.Step]*solve.Step{}
	p.Root = n.step(p.Root, seen)
	for i := range p.Stages {
		p.Stages[i].Root = n.step(p.Stages[i].Root, seen)
	}
	for _, info := range p.Steps {
		info.Step = n.step(info.Step, seen)
	}
}

// step gives the one that stands for s, whose inputs are interned too.
func (n interner) step(s *solve.Step, seen map[*solve.Step]*solve.Step) *solve.Step {
	if s == nil || seen[s] != nil {
		return seen[s]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %t", s.Op, s.Extra, s.Fresh)
	for i, in := range s.In {
		s.In[i].Step = n.step(in.Step, seen)
		fmt.Fprintf(&b, " %p %q", s.In[i].Step, in.Sel)
	}
	key := b.String()
	if n[key] == nil {
		n[key] = s
	}
	seen[s] = n[key]
	return n[key]
}
