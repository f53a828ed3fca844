package solve

import (
	"context"
	"errors"

	"github.com/cairn-build/cairn/layer/once"
	"golang.org/x/sync/errgroup"
)

// Runner runs steps and stores their results. Its methods are called concurrently,
// with the context of the build.
type Runner[R any] interface {
	// Pin returns an identity of the result of a root (a step without inputs) without
	// making it, such as the digest of an image. "" means that only selections from
	// the result have an identity: then the root is made and observed.
	Pin(ctx context.Context, s *Step) (string, error)

	// Observe returns the content digest of a selection of a result. "" means that it
	// is too expensive to compute: then the key of the result is used instead.
	Observe(ctx context.Context, r R, sel string) (string, error)

	// Load returns the result stored under a key, and its content key. ok is false if
	// there is no such result, or if it is not available.
	Load(ctx context.Context, s *Step, key Key) (r R, content Key, ok bool)

	// Alias stores a result, which is stored under its content key, under another key.
	Alias(ctx context.Context, s *Step, key, content Key, r R)

	// Lock prevents other processes from running the step with this content key until
	// unlock is called.
	Lock(ctx context.Context, s *Step, content Key) (unlock func(), err error)

	// Run makes the result of a step from those of its inputs. It stores the result
	// under both keys, immediately or later, and then calls unlock exactly once, also
	// after an error. Roots have no keys, are not stored and not locked.
	Run(ctx context.Context, j Job[R]) (R, error)
}

// Job is one step to run.
type Job[R any] struct {
	Step            *Step
	Recipe, Content Key
	In              []R      // the results of Step.In, in order
	Parts           []string // part of the content key for each input: a key, or the digest of the selection
	Unlock          func()
}

// Error is the error of a step.
type Error struct {
	Step *Step
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// of adds the step to an error that has none yet, so that the innermost step is
// reported.
func of(step *Step, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{step, err}
}

// Solver solves steps, each once. Use New to make one.
type Solver[R any] struct {
	// KeepGoing lets other steps go on after one has failed.
	KeepGoing bool

	ctx     context.Context // of the build: a shared computation must not end with its first caller
	cancel  context.CancelCauseFunc
	runner  Runner[R]
	keys    once.Map[*Step, Key]
	reuse   once.Map[*Step, reuse]
	results once.Map[Key, solved[R]]
	roots   once.Map[string, R] // by Op: equal roots share a result
}

type solved[R any] struct {
	result  R
	content Key
}

// New returns a solver for one build. All work ends with ctx, or with the first
// error unless KeepGoing is set.
func New[R any](ctx context.Context, runner Runner[R]) *Solver[R] {
	s := &Solver[R]{runner: runner}
	s.keys.KeepErrors, s.results.KeepErrors, s.roots.KeepErrors = true, true, true
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// Key returns a step's recipe key. It runs nothing except roots that Pin cannot
// identify.
func (s *Solver[R]) Key(step *Step) (Key, error) {
	return s.keys.Do(s.ctx, step, func() (Key, error) {
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

// needsRun reports whether a step is a root that Pin cannot identify, such as a context.
// Only selections from its result have an identity, so it must be run first.
func (s *Solver[R]) needsRun(step *Step) (bool, error) {
	if len(step.In) > 0 {
		return false, nil
	}
	pin, err := s.runner.Pin(s.ctx, step)
	return pin == "", err
}

func (s *Solver[R]) addRecipe(k keyer, in Input) error {
	needsRun, err := s.needsRun(in.Step)
	if err != nil {
		return err
	}
	if needsRun {
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

// addContent adds the digest of an input's selection to a key, or the content key of
// an input that is used as a whole. It returns the part that it added.
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
		return "", errors.New("an input has no content digest")
	case digest == "":
		k.add("recipe", in.Sel, string(content))
		return string(content), nil
	}
	k.add("content", in.Sel, digest)
	return digest, nil
}

// Solve returns a step's result, from the cache or by solving its inputs and running
// it. If several steps fail, the error is that of the first, which cancelled the
// others.
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
	return s.results.Do(s.ctx, key, func() (solved[R], error) {
		r, err := s.find(step, key)
		if err = of(step, err); err != nil && !s.KeepGoing {
			s.cancel(err)
		}
		return r, err
	})
}

func (s *Solver[R]) root(step *Step) (R, error) {
	return s.roots.Do(s.ctx, step.Op, func() (R, error) {
		r, err := s.runner.Run(s.ctx, Job[R]{Step: step, Unlock: func() {}})
		if err = of(step, err); err != nil && !s.KeepGoing {
			s.cancel(err)
		}
		return r, err
	})
}

// reuse says which cached results may be used for a step.
type reuse int

const (
	reuseAny     reuse = iota // all
	reuseContent              // those under the content key: the step selects from a NoCache step
	reuseNone                 // none: the step is NoCache, or uses the whole result of one that is
)

func (s *Solver[R]) reuseOf(step *Step) reuse {
	n, _ := s.reuse.Do(context.Background(), step, func() (reuse, error) {
		if step.NoCache {
			return reuseNone, nil
		}
		var n reuse
		for _, in := range step.In {
			switch below := s.reuseOf(in.Step); {
			case below == reuseAny:
			case in.Sel == "":
				n = max(n, below)
			default:
				n = max(n, reuseContent)
			}
		}
		return n, nil
	})
	return n
}

// find looks a step up by recipe key, then by content key, and runs it if both
// miss.
func (s *Solver[R]) find(step *Step, recipe Key) (solved[R], error) {
	n := s.reuseOf(step)
	if n == reuseAny {
		if r, ok := s.load(step, recipe); ok {
			return r, nil
		}
	}
	ins, parts, key, err := s.inputs(step)
	if err != nil {
		return solved[R]{}, err
	}
	if n != reuseNone && (n != reuseAny || key != recipe) {
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
	if n != reuseNone {
		if r, ok := s.load(step, key); ok { // another process made it in the meantime
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

// inputs solves a step's inputs concurrently. It returns their results, the parts of
// the content key, and that key.
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
		if needsRun, err := s.needsRun(in.Step); err != nil {
			return nil, nil, "", err
		} else if needsRun {
			content = ""
		}
		var err error
		if parts[i], err = s.addContent(k, in, results[i], content); err != nil {
			return nil, nil, "", err
		}
	}
	return results, parts, k.sum(), nil
}
