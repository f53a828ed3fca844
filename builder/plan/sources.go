package plan

import (
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
)

// sourceSteps holds the steps without inputs. Equal ones share one step.
type sourceSteps struct {
	scratch  *solve.Step
	contexts map[string]*solve.Step // by name
	remotes  map[string]*solve.Step // by op and extra data
}

func newSourceSteps() *sourceSteps {
	return &sourceSteps{
		scratch: op.NewStep(op.Scratch{}), contexts: map[string]*solve.Step{}, remotes: map[string]*solve.Step{},
	}
}

// context returns the step of a build context.
func (s *sourceSteps) context(name string) *solve.Step {
	if s.contexts[name] == nil {
		s.contexts[name] = op.NewStep(op.Context{Name: name})
	}
	return s.contexts[name]
}

// remoteStep returns the step of a [op.Git] or [op.HTTP].
func (s *sourceSteps) remoteStep(o op.Op) *solve.Step {
	step := op.NewStep(o)
	key := step.Op + step.Extra
	if old, ok := s.remotes[key]; ok {
		return old
	}
	s.remotes[key] = step
	return step
}
