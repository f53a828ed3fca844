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
	n := NewInterner()
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
		n.Share(made)
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

// Interner holds one step for each description, so that equal steps of several plans
// are one step.
type Interner struct {
	steps  map[string]*solve.Step
	shared map[*solve.Step]bool // the values of steps, and those of linked plans
}

// NewInterner returns an interner without steps.
func NewInterner() *Interner {
	return &Interner{steps: map[string]*solve.Step{}, shared: map[*solve.Step]bool{}}
}

// Share replaces the steps of a plan by the shared ones. It leaves the steps of linked
// plans as they are: they are shared already.
func (n *Interner) Share(p *Plan) {
	for _, root := range p.Linked {
		n.shared[root] = true
	}
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
func (n *Interner) step(s *solve.Step, seen map[*solve.Step]*solve.Step) *solve.Step {
	if s == nil || n.shared[s] {
		return s
	}
	if seen[s] != nil {
		return seen[s]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s%d %s%t", len(s.Op), s.Op, len(s.Extra), s.Extra, s.NoCache)
	for i, in := range s.In {
		s.In[i].Step = n.step(in.Step, seen)
		fmt.Fprintf(&b, " %p %d %s", s.In[i].Step, len(in.Sel), in.Sel)
	}
	key := b.String()
	if n.steps[key] == nil {
		n.steps[key], n.shared[s] = s, true
	}
	seen[s] = n.steps[key]
	return seen[s]
}
