package report

import (
	"slices"
	"sync"
)

// Recorder collects the facts of a build from the builder. A nil Recorder ignores them.
type Recorder struct {
	mu      sync.Mutex
	targets []Target
	inputs  []Input
	steps   []Step
}

// Planned takes the targets. Their images have the platform and, of each layer, the step
// or that it is of the base.
func (r *Recorder) Planned(targets []Target, inputs []Input) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.targets, r.inputs = targets, inputs
}

// Solved takes the steps that have started, without their times, caches, and contexts with
// the files that were read.
func (r *Recorder) Solved(steps []Step, inputs []Input) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = steps
	r.inputs = slices.DeleteFunc(r.inputs, func(in Input) bool { return in.Kind == "cache" })
	for _, in := range inputs {
		i := slices.IndexFunc(r.inputs, func(old Input) bool { return old.Kind == in.Kind && old.Name == in.Name })
		switch {
		case i < 0:
			r.inputs = append(r.inputs, in)
		case in.Files > r.inputs[i].Files: // targets may use different parts of a context
			r.inputs[i].Files, r.inputs[i].Size = in.Files, in.Size
		}
	}
}
