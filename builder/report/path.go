package report

import (
	"cmp"
	"slices"
)

// setCritical finds the chain of steps that the duration of the build depends on: from
// the one that ended last, each time, to the one that it waited for longest. A step
// depends on the steps that it uses, any other activity on all that ended before it
// began.
func (b *Build) setCritical() {
	at := map[int]*Step{}
	var last *Step
	for i := range b.Steps {
		s := &b.Steps[i]
		at[s.ID] = s
		if s.State != StateCached && (last == nil || s.End > last.End || s.End == last.End && s.Kind == "export") {
			last = s
		}
	}
	b.Critical = []int{}
	ended := slices.Clone(b.Steps)
	slices.SortStableFunc(ended, func(x, y Step) int { return cmp.Compare(x.End, y.End) })
	for seen := map[int]bool{}; last != nil && !seen[last.ID]; {
		seen[last.ID] = true
		b.Critical = append(b.Critical, last.ID)
		last = previous(last, at, ended)
	}
	slices.Reverse(b.Critical)
}

// previous returns the step that one waited for longest, or nil.
func previous(s *Step, at map[int]*Step, ended []Step) *Step {
	var best *Step
	if s.Kind == "step" {
		for _, id := range s.Needs {
			if n := at[id]; n != nil && n.State != StateCached && (best == nil || n.End > best.End) {
				best = n
			}
		}
		if best != nil {
			return best
		}
	}
	const slack = 0.005 // of the clock and of work between two steps
	i, _ := slices.BinarySearchFunc(ended, s.Start+slack, func(e Step, t float64) int { return cmp.Compare(e.End, t) })
	for i--; i >= 0; i-- {
		n := at[ended[i].ID]
		if n.State == StateCached || n.ID == s.ID || n.Start > s.Start || s.Kind == "step" && n.Kind == "step" {
			continue
		}
		return n
	}
	return nil
}
