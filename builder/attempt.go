package builder

import (
	"context"
	"errors"
	"strings"
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
	worker    *worker.Worker
	solver    *solve.Solver[*worker.Result]
	exporters export.Group        // one for each target
	stacks    [][]*snapshot.Stack // of each target and platform
}

// attempt solves the graph and exports the images. The results have the warnings even
// if it fails.
func (b *build) attempt(ctx context.Context) ([]*Built, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &attempt{build: b, ctx: ctx}
	defer func() { a.exporters.Wait() }()
	built := make([]*Built, len(b.targets))
	for i, p := range b.targets {
		built[i] = &Built{File: p.inputs.File, Warnings: p.warnings}
	}
	if err := a.phase("solve", func() error { return a.solve(ctx, cancel) }); err != nil {
		return built, err
	}
	for i, p := range b.targets {
		built[i].Tags = p.Tags
		exported, err := a.exporters[i].Export(ctx, a.exportImages(i))
		built[i].Image, built[i].Index, built[i].Pushed = exported.Image, exported.Index, exported.Pushed
		if err != nil {
			return built, err
		}
	}
	if err := a.phase("export caches", func() error { return a.exportCaches(ctx) }); err != nil {
		return built, err
	}
	return built, a.phase("export cache mounts", func() error { return a.exportCacheMounts(ctx) })
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
	env := export.Environment{Store: s.Store, Registry: s.Registry, Progress: s.Progress, Stdout: s.Stdout, Writers: s.Writers, Now: s.Now}
	for _, p := range a.targets {
		e, err := export.New(ctx, cancel, env, p.Options, p.exported)
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
	prefetch, stop := context.WithCancel(ctx)
	defer stop()
	steps := a.shownSteps()
	a.worker.Prefetch(prefetch, steps)
	if err := a.solveRoots(); err != nil {
		return a.explain(ctx, err)
	}
	for _, s := range steps {
		a.worker.Skipped(s)
	}
	return nil
}

// solveRoots solves the roots of all plans in parallel.
func (a *attempt) solveRoots() error {
	a.stacks = make([][]*snapshot.Stack, len(a.targets))
	for i, p := range a.targets {
		a.stacks[i] = make([]*snapshot.Stack, len(p.plans))
	}
	var g errgroup.Group
	for i, p := range a.targets {
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
	}
	return g.Wait()
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
		Steps: a.describeSteps(), Exporter: a.exporters,
		RemoteCaches: a.caches.wait, CacheMounts: a.cacheMounts.get(),
		Contexts: contexts, Credentials: a.origins.credentials,
		Limits: s.InputLimits, Isolation: s.Isolation, ResolvConf: s.ResolvConf, Jobs: s.Jobs,
		Compression: a.targets[0].Compression, Now: a.now(),
	}
}

// now returns the time of files that the build makes itself.
func (a *attempt) now() time.Time {
	if at := a.targets[0].Epoch; at != nil && len(a.targets) == 1 {
		return time.Unix(*at, 0)
	}
	return a.session.Now
}

// describeSteps returns the names of the steps, and which layers are in images.
func (a *attempt) describeSteps() map[*solve.Step]worker.Step {
	steps := map[*solve.Step]worker.Step{}
	limits := worker.StepLimits{Timeout: a.session.StepTimeout, Cgroups: a.cgroups}
	for _, p := range a.targets {
		for _, info := range p.steps() {
			if _, ok := steps[info.Step]; !ok {
				steps[info.Step] = worker.Step{Name: a.stepName(p, info.Name), Limits: limits}
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
	return steps
}

// stepName returns the name of a step in the display. Of several targets it begins with
// the name of the target, as in "[web build 2/4] RUN make".
func (b *build) stepName(p *planned, name string) string {
	if rest, ok := strings.CutPrefix(name, "["); ok && len(b.targets) > 1 && p.Name != "" {
		return "[" + p.Name + " " + rest
	}
	return name
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

// exportImages returns the images of target i.
func (a *attempt) exportImages(i int) []*export.Image {
	var all []*export.Image
	p := a.targets[i]
	for k, made := range p.plans {
		img := &export.Image{Config: made.Config, Platform: made.Platform, Base: made.Base, Epoch: made.Epoch, Files: a.stacks[i][k], OmitHistory: p.OmitHistory}
		if p.SquashAll {
			img.Squash = export.SquashAll
		} else if p.Squash {
			img.Squash = export.SquashNew
		}
		if a.wantsInlineCache(p) {
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
	Name string   // "[build 2/4] RUN make"
	Tail []string // the last lines of its output
	Err  error    // a *dockerfile.Error
}

func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap returns the error with its position in the Dockerfile.
func (e *StepError) Unwrap() error { return e.Err }

// explain adds the step and its position in the Dockerfile to an error.
func (a *attempt) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var failed *solve.Error
	if !errors.As(err, &failed) {
		return err
	}
	for _, p := range a.targets {
		for _, info := range p.steps() {
			if info.Step == failed.Step {
				return &StepError{
					Name: a.stepName(p, info.Name), Tail: a.worker.Tail(failed.Step, 20),
					Err: p.inputs.File.At(failed.Err, info.Ranges...),
				}
			}
		}
	}
	return err
}
