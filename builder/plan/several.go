package plan

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
)

// MakeEach plans a build for each of several platforms. The plans share equal
// steps, such as those of a stage for the build platform before it uses a TARGET
// variable.
func MakeEach(ctx context.Context, in Input, platforms []layer.Platform) ([]*Plan, error) {
	return Interner{}.MakeEach(ctx, in, platforms)
}

// Interner holds one step for each description, so that equal steps of several plans
// are one step.
type Interner map[string]*solve.Step

// MakeEach is the function MakeEach with the steps of n.
func (n Interner) MakeEach(ctx context.Context, in Input, platforms []layer.Platform) ([]*Plan, error) {
	var err error
	if in.MultiPlatform, err = MultiPlatform(in.Args, len(platforms)); err != nil {
		return nil, err
	}
	var plans []*Plan
	for _, p := range platforms {
		in.Platform = p
		made, err := Make(ctx, in)
		if err != nil {
			return nil, err
		}
		n.plan(made)
		plans = append(plans, made)
	}
	return plans, nil
}

// MultiPlatform reports whether the result of a build for n platforms is an image index.
// The build argument BUILDKIT_MULTI_PLATFORM makes one for a single platform too.
func MultiPlatform(args map[string]string, n int) (bool, error) {
	const name = "BUILDKIT_MULTI_PLATFORM"
	value := args[name]
	if value == "" {
		return n > 1, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("build argument %s=%s: want a boolean", name, value)
	}
	if !on && n > 1 {
		return false, fmt.Errorf("build argument %s=%s: an image of %d platforms is always an index: leave it out, or build for one platform", name, value, n)
	}
	return on, nil
}

// plan replaces the steps of a plan by the shared ones.
func (n Interner) plan(p *Plan) {
	seen := map[*solve.Step]*solve.Step{}
	p.Root = n.step(p.Root, seen)
	for i := range p.Stages {
		p.Stages[i].Root = n.step(p.Stages[i].Root, seen)
	}
	for _, info := range p.Steps {
		info.Step = n.step(info.Step, seen)
	}
}

// step returns the shared step that equals s. Its inputs are shared steps too.
func (n Interner) step(s *solve.Step, seen map[*solve.Step]*solve.Step) *solve.Step {
	if s == nil || seen[s] != nil {
		return seen[s]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %t", s.Op, s.Extra, s.NoCache)
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
