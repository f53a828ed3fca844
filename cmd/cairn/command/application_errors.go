package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/input"
	"github.com/cairn-build/cairn/builder/plan"
)

// explain adds the targets to the errors of a build. It prints all errors but one, which
// it returns: of a build that went on, the errors of all targets with mistakes or failed
// steps of their own.
func (a *application) explain(err error) error {
	var failed *builder.FailedError
	if errors.As(err, &failed) {
		for i, name := range failed.Targets {
			if cause := causeOf(failed.Errs[i]); cause == "" || cause == name {
				Report(a.Stderr, a.ofTarget(name, failed.Errs[i]))
			}
		}
		return errors.New(failed.Error())
	}
	list := flattened(err)
	for i, one := range list {
		var step *builder.StepError
		var target *builder.TargetError
		switch {
		case errors.As(one, &step):
			one = a.ofTarget(step.Target, one)
		case errors.As(one, &target):
			one = a.ofTarget(target.Target, target.Err)
		}
		if i == len(list)-1 {
			return one
		}
		Report(a.Stderr, one)
	}
	return err
}

// flattened returns the errors that were joined, or the error itself.
func flattened(err error) (list []error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	for _, one := range joined.Unwrap() {
		list = append(list, flattened(one)...)
	}
	return list
}

// ofOnly adds the name of the target to the error of a build that has no other.
func (a *application) ofOnly(err error) error {
	if err == nil || len(a.targets) != 1 || errors.As(err, new(*builder.FailedError)) || errors.As(err, new(*builder.StepError)) || errors.As(err, new(bake.Problems)) {
		return err
	}
	return &builder.TargetError{Target: a.targets[0].name, Err: err}
}

// ofTarget adds the name of a target to an error. That of a wrong attribute has its place.
func (a *application) ofTarget(name string, err error) error {
	if name == "" {
		return err
	}
	for _, m := range a.targets {
		if m.name != name {
			continue
		}
		var missing *input.MissingError
		var stage *plan.StageError
		var context *input.ContextError
		switch {
		case errors.As(err, &context) && context.Name == "":
			return m.problem("context", err)
		case errors.As(err, &context):
			return m.problem("contexts", err)
		case errors.As(err, &missing):
			return m.problem("dockerfile", missingDockerfile(missing))
		case errors.As(err, &stage):
			return m.problem("target", unknownStage(stage))
		}
	}
	return fmt.Errorf("target %s: %w", name, err)
}

func missingDockerfile(e *input.MissingError) error {
	remedy := "write one, or set dockerfile to the path of another, relative to the context"
	if len(e.Similar) > 0 {
		remedy = "set dockerfile to the path of another, relative to the context, such as that of " + strings.Join(e.Similar, " or ")
	}
	return fmt.Errorf("there is no Dockerfile at %s: %s", e.Where, remedy)
}

func unknownStage(e *plan.StageError) error {
	const most = 10
	if len(e.Stages) == 0 {
		return fmt.Errorf("the Dockerfile has no stage %q: its stages have no names: leave target out", e.Name)
	}
	stages := e.Stages
	if len(stages) > most {
		stages = append(stages[:most:most], "...")
	}
	return fmt.Errorf("the Dockerfile has no stage %q: set target to one of %s", e.Name, strings.Join(stages, ", "))
}

// causeOf returns the target whose mistake or step is the reason of another one's
// failure, or "".
func causeOf(err error) (target string) {
	var link *builder.LinkError
	for errors.As(err, &link) {
		target, err = link.Target, link.Err
	}
	var step *builder.StepError
	if target == "" && errors.As(err, &step) {
		target = step.Target
	}
	return target
}

// problem returns an error of an attribute with its place in the definition.
func (m *appTarget) problem(attribute string, err error) bake.Problem {
	return bake.Problem{Position: m.definition.Position(attribute), Target: m.name, Text: err.Error()}
}
