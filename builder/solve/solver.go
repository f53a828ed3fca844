package solve

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Runner is what a solver asks of the world. Its methods are called
// concurrently, with the context of the build.
type Runner[R any] interface {
	// Pin identifies the result of a root (a step without inputs) before it is
	// made, as the digest of an image does. "" means that only what is selected
	// from it can be identified: then it is made and observed.
	Pin(ctx context.Context, s *Step) (string, error)

	// Observe gives the content digest of a selection of a result. "" means
	// that it can't be had cheaply: then the recipe stands for the content.
	Observe(ctx context.Context, r R, sel string) (string, error)

	// Load gives the result filed under a key, and the content key under which
	// it was made. ok is false when there is none, or none that can be had.
	Load(ctx context.Context, s *Step, key Key) (r R, content Key, ok bool)

	// Alias files a result that is known under its content key under another.
	Alias(ctx context.Context, s *Step, key, content Key, r R)

	// Lock keeps every other process from running the step of this content key
	// until unlock is called.
	Lock(ctx context.Context, s *Step, content Key) (unlock func(), err error)

	// Run makes the result of a step from those of its inputs. It files the
	// result under both keys, now or later, and then calls unlock, in any case
	// and once. Roots have no keys, are not filed and need no lock.
	Run(ctx context.Context, j Job[R]) (R, error)
}

// Job is one step to run.
type Job[R any] struct {
	Step            *Step
	Recipe, Content Key
	In              []R      // the results of Step.In, in order
	Parts           []string // what the content key has of each: a key, or the digest of what is selected
	Unlock          func()
}

// Error says which step failed.
type Error struct {
	Step *Step
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives what went wrong in the step.
func (e *Error) Unwrap() error { return e.Err }

// of notes the step of an error that has none yet: the innermost is to blame.
func of(step *Step, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{step, err}
}

// Solver solves steps, each once. The zero value is not usable: see New.
type Solver[R any] struct {
	ctx     context.Context // the build's: a memoised call must not end with its first caller
	cancel  context.CancelCauseFunc
	runner  Runner[R]
	keys    memo[*Step, Key]
	news    memo[*Step, news]
	results memo[Key, solved[R]]
	roots   memo[string, R] // by Op: equal roots are one
}

type solved[R any] struct {
	result  R
	content Key
}

// New gives a solver for one build; ctx is the build's, and ends all its work.
// The first error ends it too.
func New[R any](ctx context.Context, runner Runner[R]) *Solver[R] {
	s := &Solver[R]{runner: runner}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// Key gives a step's recipe key. It runs nothing but roots that only their
// content identifies.
func (s *Solver[R]) Key(step *Step) (Key, error) {
	return s.keys.do(step, func() (Key, error) {
		if len(step.In) == 0 {
			return s.rootKey(step)
		}
		k := newKeyer("step")
		k.add(step.Op)
		for _, in := range step.In {
			if err := s.addRecipe(k, in); err != nil {
				return "", of(step, err)
			}
		}
		return k.sum(), nil
	})
}

func (s *Solver[R]) rootKey(step *Step) (Key, error) {
	pin, err := s.runner.Pin(s.ctx, step)
	if err != nil {
		return "", err
	}
	k := newKeyer("root")
	k.add(step.Op, pin)
	return k.sum(), nil
}

// floats tells whether a step is a root that has no identity of its own.
func (s *Solver[R]) floats(step *Step) (bool, error) {
	if len(step.In) > 0 {
		return false, nil
	}
	pin, err := s.runner.Pin(s.ctx, step)
	return pin == "", err
}

func (s *Solver[R]) addRecipe(k keyer, in Input) error {
	floating, err := s.floats(in.Step)
	if err != nil {
		return err
	}
	if floating {
		root, err := s.root(in.Step)
		if err != nil {
			return err
		}
		_, err = s.addContent(k, in, root, "")
		return err
	}
	key, err := s.Key(in.Step)
	if err != nil {
		return err
	}
	k.add("recipe", in.Sel, string(key))
	return nil
}

// addContent adds an input by the content of what is selected of it, or by the
// content key of the step when it is used whole.
func (s *Solver[R]) addContent(k keyer, in Input, r R, content Key) (part string, err error) {
	if in.Sel == "" && content != "" {
		k.add("recipe", "", string(content))
		return string(content), nil
	}
	digest, err := s.runner.Observe(s.ctx, r, in.Sel)
	switch {
	case err != nil:
		return "", err
	case digest == "" && content == "":
		return "", fmt.Errorf("the content of an input can't be told")
	case digest == "":
		k.add("recipe", in.Sel, string(content))
		return string(content), nil
	}
	k.add("content", in.Sel, digest)
	return digest, nil
}

// Solve gives a step's result: a known one, or by solving its inputs and
// running it. When several steps fail, the error is that of the first, which
// ended the others.
func (s *Solver[R]) Solve(step *Step) (R, error) {
	r, err := s.solve(step)
	if err != nil && s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
	}
	return r.result, err
}

func (s *Solver[R]) solve(step *Step) (solved[R], error) {
	key, err := s.Key(step)
	if err != nil {
		return solved[R]{}, err
	}
	if len(step.In) == 0 {
		r, err := s.root(step)
		return solved[R]{r, key}, err
	}
	return s.results.do(key, func() (solved[R], error) {
		r, err := s.find(step, key)
		if err = of(step, err); err != nil {
			s.cancel(err)
		}
		return r, err
	})
}

func (s *Solver[R]) root(step *Step) (R, error) {
	return s.roots.do(step.Op, func() (R, error) {
		r, err := s.runner.Run(s.ctx, Job[R]{Step: step, Unlock: func() {}})
		if err = of(step, err); err != nil {
			s.cancel(err)
		}
		return r, err
	})
}

// news is how much of what is known may serve for a step.
type news int

const (
	nothingNew news = iota // all
	inputNew               // only what is known by content: a selected input is made anew
	allNew                 // nothing: the step is Fresh, or stands on one that is
)

func (s *Solver[R]) newsOf(step *Step) news {
	n, _ := s.news.do(step, func() (news, error) {
		if step.Fresh {
			return allNew, nil
		}
		var n news
		for _, in := range step.In {
			switch below := s.newsOf(in.Step); {
			case below == nothingNew:
			case in.Sel == "":
				n = max(n, below)
			default:
				n = max(n, inputNew)
			}
		}
		return n, nil
	})
	return n
}

// find looks a step up by recipe, then by content, then runs it.
func (s *Solver[R]) find(step *Step, recipe Key) (solved[R], error) {
	n := s.newsOf(step)
	if n == nothingNew {
		if r, ok := s.load(step, recipe); ok {
			return r, nil
		}
	}
	ins, parts, key, err := s.inputs(step)
	if err != nil {
		return solved[R]{}, err
	}
	if n != allNew && (n != nothingNew || key != recipe) {
		if r, ok := s.load(step, key); ok {
			if key != recipe {
				s.runner.Alias(s.ctx, step, recipe, r.content, r.result)
			}
			return r, nil
		}
	}
	unlock, err := s.runner.Lock(s.ctx, step, key)
	if err != nil {
		return solved[R]{}, err
	}
	if n != allNew {
		if r, ok := s.load(step, key); ok { // by another process, while this one waited
			unlock()
			return r, nil
		}
	}
	r, err := s.runner.Run(s.ctx, Job[R]{step, recipe, key, ins, parts, unlock})
	return solved[R]{r, key}, err
}

func (s *Solver[R]) load(step *Step, key Key) (solved[R], bool) {
	r, content, ok := s.runner.Load(s.ctx, step, key)
	return solved[R]{r, content}, ok
}

// inputs solves a step's inputs, all at once, and tells its content key.
func (s *Solver[R]) inputs(step *Step) ([]R, []string, Key, error) {
	ins := make([]solved[R], len(step.In))
	var g errgroup.Group
	for i, in := range step.In {
		g.Go(func() (err error) {
			ins[i], err = s.solve(in.Step)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, "", err
	}
	results, parts := make([]R, len(ins)), make([]string, len(ins))
	k := newKeyer("step")
	k.add(step.Op)
	for i, in := range step.In {
		results[i] = ins[i].result
		content := ins[i].content
		if floating, err := s.floats(in.Step); err != nil {
			return nil, nil, "", err
		} else if floating {
			content = ""
		}
		var err error
		if parts[i], err = s.addContent(k, in, results[i], content); err != nil {
			return nil, nil, "", err
		}
	}
	return results, parts, k.sum(), nil
}
