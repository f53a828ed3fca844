package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/export"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
)

// attempt is one attempt to solve the graph of a build and to export the images.
type attempt struct {
	*build
	ctx       context.Context
	began     time.Time
	worker    *worker.Worker
	solver    *solve.Solver[*worker.Result]
	exporters export.Group        // one for each target
	stacks    [][]*snapshot.Stack // of each target and platform
	built     []*Built
	names     map[*solve.Step]worker.Step
	owners    map[*solve.Step][]*planned // targets that have the step

	mu   sync.Mutex
	errs []error // of each target
}

// attempt solves the graph and exports the images. The results have the warnings even
// if it fails.
func (b *build) attempt(ctx context.Context) ([]*Built, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &attempt{build: b, ctx: ctx, began: time.Now(), errs: make([]error, len(b.targets))}
	defer func() { a.exporters.Wait() }()
	defer a.record()
	for _, p := range b.targets {
		a.built = append(a.built, &Built{Name: p.Name, File: p.inputs.File, Warnings: p.warnings})
	}
	if err := a.phase("solve", func() error { return a.solve(ctx, cancel) }); err != nil {
		return a.built, err
	}
	a.countSteps()
	if err := a.exportImages(ctx); err != nil {
		return a.built, err
	}
	if !b.several {
		if err := a.exportAllCaches(ctx); err != nil {
			return a.built, err
		}
	}
	return a.built, a.failures()
}

// exportImages exports the images. Of several targets, the names of all images are set
// at the very end, so that a failure leaves all of them where they were.
func (a *attempt) exportImages(ctx context.Context) error {
	if !a.several {
		return a.each(ctx, 1, func(i int) error { return a.finished(i)(a.exporters[i].Export(ctx, a.images(i))) })
	}
	destinations := a.exporters.Destinations()
	for _, step := range []struct {
		do     func(i int) error
		atOnce int
	}{
		{func(i int) error { return a.exporters[i].Assemble(ctx, a.images(i)) }, exportsAtOnce},
		{func(i int) error { return destinations.Add(ctx, a.targets[i].Name, a.exporters[i]) }, 1},
		{func(i int) error { return a.exporters[i].WriteOutputs(ctx) }, 1}, // several may write into one directory
		{func(i int) error { return a.exporters[i].Send(ctx) }, exportsAtOnce},
	} {
		if err := a.each(ctx, step.atOnce, step.do); err != nil {
			return err
		}
	}
	if err := a.exportAllCaches(ctx); err != nil {
		return err
	}
	return a.each(ctx, exportsAtOnce, func(i int) error { return a.finished(i)(a.exporters[i].Finish(ctx)) })
}

func (a *attempt) exportAllCaches(ctx context.Context) error {
	if err := a.phase("export caches", func() error { return a.exportCaches(ctx) }); err != nil {
		return err
	}
	return a.phase("export cache mounts", func() error { return a.exportCacheMounts(ctx) })
}

// finished returns a function that takes the result of exporting target i.
func (a *attempt) finished(i int) func(export.Exported, error) error {
	return func(e export.Exported, err error) error {
		built := a.built[i]
		built.Tags = a.targets[i].Tags
		built.Image, built.Index, built.Pushed = e.Image, e.Index, e.Pushed
		return err
	}
}

// exportsAtOnce is the number of targets that are exported at the same time.
const exportsAtOnce = 8

// each calls f for all targets that have not failed, atOnce of them at the same time and
// in their order. It returns the first error in that order, unless the build goes on
// after failures. One at a time, none is called after a failure that ends the build.
func (a *attempt) each(ctx context.Context, atOnce int, f func(i int) error) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range a.targets {
		if a.failed(i) != nil {
			continue
		}
		g.Go(func() error {
			if atOnce == 1 && !a.session.KeepGoing && a.failures() != nil {
				return nil
			}
			if err := f(i); err != nil {
				a.fail(i, err)
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are those of the targets
	if a.session.KeepGoing && ctx.Err() == nil {
		return nil
	}
	return a.failures()
}

func (a *attempt) failed(i int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.errs[i]
}

// fail notes the first error of a target.
func (a *attempt) fail(i int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.errs[i] == nil {
		a.errs[i] = err
	}
}

// failures returns the first error in the order of the targets or, if the build goes on
// after failures, a [*FailedError] with all.
func (a *attempt) failures() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var failed FailedError
	for i, err := range a.errs {
		if err == nil {
			continue
		}
		if !a.session.KeepGoing || !a.several {
			var step *StepError
			if errors.As(err, &step) {
				return err
			}
			return a.ofTarget(a.targets[i], err)
		}
		a.built[i].Err = err
		failed.Targets = append(failed.Targets, a.targets[i].Name)
		failed.Errs = append(failed.Errs, err)
	}
	if len(failed.Errs) == 0 {
		return nil
	}
	return &failed
}

// phase runs a part of the build and records its time.
func (a *attempt) phase(name string, run func() error) error {
	defer a.session.Progress.Span("build", progress.Work, name)()
	return run()
}

// solve solves the roots of all targets. Layers of images are pushed as soon as they
// are known.
func (a *attempt) solve(ctx context.Context, cancel context.CancelCauseFunc) (err error) {
	s := a.session
	env := export.Environment{Store: s.Store, Registry: s.Registry, Progress: s.Progress, Stdout: s.Stdout, Writers: s.Writers, Now: s.Now, History: s.History}
	for i, p := range a.targets {
		stop := cancel
		if s.KeepGoing {
			stop = func(err error) { a.fail(i, err) }
		}
		e, err := export.New(ctx, stop, env, p.Options, p.exported)
		if err != nil {
			return err
		}
		a.exporters = append(a.exporters, e)
	}
	a.worker = worker.New(ctx, a.workerOptions())
	// Pipelines write the records of finished steps even if a later step fails.
	defer func() {
		if waitErr := a.worker.Wait(); err == nil && waitErr != nil {
			err = a.explain(ctx, waitErr)
		}
		if err != nil {
			cancel(err)
		}
	}()
	a.solver = solve.New[*worker.Result](ctx, a.worker)
	a.solver.KeepGoing = s.KeepGoing
	prefetch, stop := context.WithCancel(ctx)
	defer stop()
	steps := a.shownSteps()
	a.worker.Prefetch(prefetch, steps)
	if err := a.stopAtBreaks(); err != nil {
		return a.explain(ctx, err)
	}
	if err := a.solveRoots(); err != nil {
		return a.explain(ctx, err)
	}
	for _, s := range steps {
		if !a.isPending(s) {
			a.worker.Skipped(s)
		}
	}
	return nil
}

// isPending reports whether all targets with a step have failed, so that it is unknown
// whether it is cached.
func (a *attempt) isPending(s *solve.Step) bool {
	for _, p := range a.owners[s] {
		if a.failed(p.index) == nil {
			return false
		}
	}
	return true
}

// solveRoots solves the roots of all plans in parallel.
func (a *attempt) solveRoots() error {
	a.stacks = make([][]*snapshot.Stack, len(a.targets))
	var g errgroup.Group
	for i, p := range a.targets {
		a.stacks[i] = make([]*snapshot.Stack, len(p.plans))
		g.Go(func() error {
			err := a.solveTarget(i, p)
			if err == nil || !a.session.KeepGoing || a.ctx.Err() != nil {
				return err
			}
			a.fail(i, a.explainTo(p, err))
			return nil
		})
	}
	return g.Wait()
}

// solveTarget solves the roots of one target.
func (a *attempt) solveTarget(i int, p *planned) error {
	var g errgroup.Group
	for k, made := range p.plans {
		g.Go(func() error {
			stack := a.worker.Layers().Empty() // of an image without layers
			if made.Root != nil {
				r, err := a.solver.Solve(made.Root)
				if err != nil {
					return err
				}
				stack = r.Stack()
			}
			stack, err := a.squash(p, made, stack)
			if err != nil {
				return err
			}
			a.stacks[i][k] = stack
			a.exporters[i].Enqueue(stack.Layers()...)
			return nil
		})
	}
	err := g.Wait()
	a.built[i].Elapsed = time.Since(a.began)
	shown := err
	if err != nil && a.ctx.Err() != nil {
		shown = context.Canceled
	}
	a.session.Progress.TargetDone(a.group(p), shown)
	return err
}

// group returns the name that the steps of a target have in the progress display, or "" if
// there is only one.
func (a *attempt) group(p *planned) string {
	if !a.several {
		return ""
	}
	return p.Name
}

// squash merges the layers of a target with the option. Layers of the base image stay,
// unless all are to be merged.
func (a *attempt) squash(p *planned, made *plan.Plan, stack *snapshot.Stack) (*snapshot.Stack, error) {
	if !p.squashes() {
		return stack, nil
	}
	base := 0
	if made.Base != nil && !p.SquashAll {
		base = len(made.Base.Layers)
	}
	return stack.Squash(a.ctx, base, "merging layers")
}

// workerOptions returns the options of the worker. Layers are compressed as for the
// first target; those of targets with another compression are recompressed.
func (a *attempt) workerOptions() worker.Options {
	s := a.session
	contexts := map[string]*source.Dir{}
	for dir, name := range a.contexts {
		contexts[name] = dir
	}
	return worker.Options{
		Store: s.Store, Cache: cache.New(s.Store), Registry: s.Registry, Progress: s.Progress,
		Steps: a.describeSteps(), Past: a.past(), Exporter: a.exporters, Debugger: a.debugger(),
		RemoteCaches: a.caches.wait, CacheMounts: a.cacheMounts.get(),
		Contexts: contexts, Credentials: a.origins.credentials,
		Limits: s.InputLimits, Isolation: s.Isolation, ResolvConf: s.ResolvConf, Jobs: s.Jobs,
		Compression: a.targets[0].Compression, Now: a.now(),
	}
}

// now returns the time of files that the build makes itself.
func (a *attempt) now() time.Time {
	if at := a.targets[0].Epoch; at != nil && !a.several {
		return time.Unix(*at, 0)
	}
	return a.session.Now
}

// describeSteps returns the names of the steps, and which layers are in images.
func (a *attempt) describeSteps() map[*solve.Step]worker.Step {
	a.owners = map[*solve.Step][]*planned{}
	for _, p := range a.targets {
		for _, info := range p.steps() {
			if !slices.Contains(a.owners[info.Step], p) {
				a.owners[info.Step] = append(a.owners[info.Step], p)
			}
		}
	}
	steps := map[*solve.Step]worker.Step{}
	for _, p := range a.targets {
		limits := worker.StepLimits{Timeout: a.session.StepTimeout, Cgroups: a.cgroups}
		if p.Resources != nil {
			limits.Cgroups = a.cgroups.Other(*p.Resources)
		}
		for _, info := range p.steps() {
			if _, ok := steps[info.Step]; !ok {
				steps[info.Step] = worker.Step{Name: stepName(a.owners[info.Step], info.Name, a.several), Target: a.group(p), Limits: limits, Place: place(p, info)}
			}
		}
	}
	for _, p := range a.targets {
		for s := range p.exported {
			step := steps[s]
			step.Exported = true
			steps[s] = step
		}
	}
	a.names = steps
	return steps
}

// stepName returns the name of a step in the display. Of several targets it begins with
// the name of the first that has the step and the number of others, as in
// "[web +2 build 2/4] RUN make".
func stepName(owners []*planned, name string, several bool) string {
	rest, ok := strings.CutPrefix(name, "[")
	if !ok || !several || owners[0].Name == "" {
		return name
	}
	more := ""
	if n := len(owners) - 1; n > 0 {
		more = fmt.Sprintf(" +%d", n)
	}
	return "[" + owners[0].Name + more + " " + rest
}

// countSteps counts the steps of each target that were run.
func (a *attempt) countSteps() {
	for i, p := range a.targets {
		seen := map[*solve.Step]bool{}
		for _, info := range p.steps() {
			s := info.Step
			ran := a.worker.Ran(s)
			if worker.IsRoot(s) {
				if a.worker.Number(s) == 0 {
					continue
				}
				ran = !a.worker.ShownCached(s)
			}
			if seen[s] || a.failed(i) != nil && !ran {
				continue
			}
			seen[s] = true
			switch count := &a.built[i].Steps; {
			case !ran:
				count.Cached++
			case a.owners[s][0] == p:
				count.Ran++
			default:
				count.Shared++
			}
		}
	}
}

// steps returns the steps that are displayed.
func (b *build) shownSteps() (all []*solve.Step) {
	for _, p := range b.targets {
		for _, info := range p.steps() {
			all = append(all, info.Step)
		}
	}
	return all
}

// images returns the images of target i.
func (a *attempt) images(i int) []*export.Image {
	var all []*export.Image
	p := a.targets[i]
	for k, made := range p.plans {
		img := &export.Image{Config: made.Config, Platform: made.Platform, Base: made.Base, Epoch: made.Epoch, Files: a.stacks[i][k], OmitHistory: p.OmitHistory}
		if p.SquashAll {
			img.Squash = export.SquashAll
		} else if p.Squash {
			img.Squash = export.SquashNew
		}
		if a.session.wantsInlineCache(p) {
			img.Finish = func(ctx context.Context, config []byte, layers []layer.Descriptor) ([]byte, error) {
				return a.addInlineCache(ctx, made, config, layers)
			}
		}
		all = append(all, img)
	}
	return all
}

// StepError is the error of a failed step.
type StepError struct {
	Name   string   // "[build 2/4] RUN make"
	Target string   // that the step is of
	Tail   []string // the last lines of its output
	Hint   string   // a probable reason that the error does not tell, or ""
	Err    error    // a *dockerfile.Error
}

func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap returns the error with its position in the Dockerfile.
func (e *StepError) Unwrap() error { return e.Err }

// FailedError is the error of a build that went on after failures.
type FailedError struct {
	Targets []string // that failed
	Errs    []error  // of each of them
}

func (e *FailedError) Error() string {
	noun := "targets"
	if len(e.Targets) == 1 {
		noun = "target"
	}
	return fmt.Sprintf("%d %s failed: %s", len(e.Targets), noun, strings.Join(e.Targets, ", "))
}

// Unwrap returns the errors of the targets.
func (e *FailedError) Unwrap() []error { return e.Errs }

// explain adds the step and its position in the Dockerfile to an error.
func (a *attempt) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return a.explainTo(nil, err)
}

// explainTo adds the step and its position in the Dockerfile to an error: in that of the
// given target, if it has the step.
func (a *attempt) explainTo(target *planned, err error) error {
	var failed *solve.Error
	if !errors.As(err, &failed) {
		return err
	}
	owners := a.owners[failed.Step]
	if len(owners) == 0 {
		return err
	}
	p := owners[0]
	if slices.Contains(owners, target) {
		p = target
	}
	for _, info := range p.steps() {
		if info.Step == failed.Step {
			name := a.names[failed.Step].Name
			return &StepError{
				Name: name, Target: p.Name, Tail: a.worker.Tail(failed.Step, 20), Hint: hint(name, failed.Err),
				Err: p.inputs.File.At(failed.Err, info.Ranges...),
			}
		}
	}
	return err
}
