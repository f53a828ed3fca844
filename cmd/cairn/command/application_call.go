package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/progress"
)

// answer answers the calls of the targets on standard output. It returns the first error
// after all answers.
func (a *application) answer(ctx context.Context) error {
	type answer struct {
		target *appTarget
		write  func() error
	}
	var answers []answer
	return a.withRegistries(a.registries, progress.Mode(a.progress), func(env *environment) error {
		asJSON := false
		for _, m := range a.targets {
			if m.call.Method == "" {
				return bake.Problems{m.problem("call", errors.New("it is to be built, and other targets are only evaluated: call them apart"))}
			}
			asJSON = asJSON || m.call.JSON
		}
		var errs []error
		for _, m := range a.targets {
			m.call.JSON = asJSON
			write, err := m.ask(ctx, env)
			if err != nil {
				errs = append(errs, &builder.TargetError{Target: m.name, Err: err})
			}
			answers = append(answers, answer{m, write})
		}
		if err := cause(ctx, errors.Join(errs...)); err != nil {
			return a.explain(err)
		}
		env.Progress.Close() // or its lines would mix with the answers
		var first error
		all := map[string]map[string]any{}
		for i, one := range answers {
			var text bytes.Buffer
			program := *a.Program
			program.Stdout = &text
			one.target.Program = &program
			if err := one.write(); first == nil {
				first = err
			}
			if asJSON {
				answer, err := one.target.answerJSON(text.Bytes())
				if err != nil {
					return err
				}
				all[one.target.name] = answer
				continue
			}
			if len(answers) > 1 {
				if i > 0 {
					fmt.Fprintln(a.Stdout)
				}
				fmt.Fprintf(a.Stdout, "%s:\n", one.target.name)
			}
			fmt.Fprintf(a.Stdout, "%s", text.Bytes())
		}
		if !asJSON {
			return first
		}
		groups := map[string]any{"default": map[string]any{"targets": slices.Sorted(maps.Keys(all))}}
		return errors.Join(writeJSON(a.Stdout, map[string]any{"group": groups, "target": all}), first)
	})
}

// answerJSON returns the definition of a target with the answer to its call.
func (m *appTarget) answerJSON(answer []byte) (map[string]any, error) {
	text, err := json.Marshal(m.definition)
	if err != nil {
		return nil, err
	}
	all := map[string]any{}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	all[m.call.Method] = json.RawMessage(answer)
	return all, nil
}
