package builder

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/cairn-build/cairn/builder/agent"
	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/registry"
)

// Build builds an image and hands it over. When a step fails the error is a
// [*StepError]; an error in the Dockerfile itself is a [*dockerfile.Error]. Once
// there is a plan, its warnings are there beside an error.
func (b *Builder) Build(ctx context.Context, o Options) (*Built, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	j, err := b.parse(ctx, o)
	if err != nil {
		return nil, err
	}
	defer j.close()
	j.startImports(ctx)
	j.folders = j.importFolders()
	if err := j.plan(ctx); err != nil {
		return nil, err
	}
	j.checkAnew()
	err = j.make(ctx)
	var gone *worker.GoneError
	if errors.As(err, &gone) && ctx.Err() == nil {
		b.Progress.Warn("%v: building without caches", gone)
		j.imports = nil
		err = j.make(ctx)
	}
	return &j.built, err
}

// make runs the plan and hands over what came of it.
func (j *job) make(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer j.pushesDone()
	for _, phase := range []struct {
		name string
		does func() error
	}{
		{"solve", func() error { return j.solve(ctx, cancel) }},
		{"assemble", func() error { return j.assemble(ctx) }},
		{"export", func() error { return j.export(ctx) }},
		{"export caches", func() error { return j.exportCaches(ctx) }},
		{"export cache mounts", func() error { return j.exportFolders(ctx) }},
	} {
		end := j.Progress.Span("build", progress.Work, phase.name)
		err := phase.does()
		end()
		if err != nil {
			return err
		}
	}
	return nil
}

// job is one build on its way through the phases.
type job struct {
	*Builder
	opt        Options
	file       *dockerfile.File
	definition *progress.Vertex // that read it
	context    *source.Dir
	secrets    *secret.Set
	agents     *agent.Set
	planned    *plan.Plan
	infos      map[*solve.Step]*plan.StepInfo
	imports    *imports
	folders    func(context.Context) []*remote.Folders
	chain      map[*solve.Step]bool // steps whose layers the image has
	solver     *solve.Solver[*worker.Result]
	worker     *worker.Worker
	pushes     *pushes
	layers     []*worker.Layer // of the image, bottom first
	root       *worker.Result
	built      Built
	inputs
}

// pushesDone waits for what is on its way, which reads what close closes.
func (j *job) pushesDone() { j.pushes.wait() }

func (j *job) close() {
	if j.context != nil {
		leave(j.context)
	}
	j.inputs.close()
}

// plan turns the Dockerfile into a graph of steps.
func (j *job) plan(ctx context.Context) error {
	p, err := plan.Make(ctx, j.input())
	if err != nil {
		return err
	}
	j.planned, j.built.Warnings, j.built.File = p, p.Warnings, j.file
	for _, w := range p.Warnings {
		j.definition.Advise(Advice(j.file, w))
	}
	j.infos = map[*solve.Step]*plan.StepInfo{}
	for _, info := range p.Steps {
		if _, ok := j.infos[info.Step]; !ok {
			j.infos[info.Step] = info
		}
	}
	if err := j.checkAnnotations(); err != nil {
		return err
	}
	return j.enterNamed(ctx)
}

// input is what the plan is made from.
func (j *job) input() plan.Input {
	return plan.Input{
		File: j.file, Target: j.opt.Target, Platform: j.opt.Platform, Args: j.opt.Args, Labels: j.opt.Labels,
		Network: j.opt.Network, AddHosts: j.opt.AddHosts, ShmSize: j.opt.ShmSize, Ulimits: j.opt.Ulimits,
		Allow: j.opt.Allow, NoCache: j.opt.NoCache, Epoch: j.opt.Epoch,
		Anew: j.opt.Anew, Base: j.base, Named: j.named, EpochOf: j.epochOf,
		Ignored: func(path string) bool {
			if j.context == nil || j.context.Exceptions() { // hard to say beforehand what comes back
				return false
			}
			_, ok := j.context.Ignored(path)
			return ok
		},
	}
}

// solve gets the result of the graph's root: every step that it needs and that
// is not known is run. Layers that the image will hold are pushed as they come.
func (j *job) solve(ctx context.Context, cancel context.CancelCauseFunc) (err error) {
	j.chain = map[*solve.Step]bool{}
	for s := j.planned.Root; s != nil; s = follow(s, j.chain) {
		j.chain[s] = true
	}
	j.worker = worker.New(ctx, worker.Options{
		Store: j.Store, Cache: cache.New(j.Store), Registry: j.Registry, Progress: j.Progress, Isolation: j.Isolation,
		Contexts: j.contexts, Secrets: j.secrets, Agents: j.agents,
		Agent: j.gitAgent(),
		Jobs:  j.jobs(), Compression: j.opt.Compression, Now: j.opt.Now,
		Name:    func(s *solve.Step) string { return j.name(s) },
		Ships:   func(s *solve.Step) bool { return j.chain[s] },
		Imports: j.imports.wait,
		Folders: j.folders,
		Made:    func(l *worker.Layer) { j.pushes.offer(ctx, l) },
		Runs:    func() { j.pushes.rights(ctx) },
	})
	// Pipelines file the records of finished steps even when a later step fails.
	defer func() {
		if waitErr := j.worker.Wait(); err == nil {
			err = waitErr
		}
		if err != nil {
			cancel(err)
		}
	}()
	if j.pushes, err = j.newPushes(); err != nil {
		return err
	}
	j.pushes.check(ctx, cancel)
	if j.planned.Root == nil {
		return nil
	}
	j.solver = solve.New[*worker.Result](ctx, j.worker)
	ahead, stop := context.WithCancel(ctx)
	j.worker.Ahead(ahead, j.steps())
	j.root, err = j.solver.Solve(j.planned.Root)
	stop()
	if err != nil {
		return j.explain(ctx, err)
	}
	for _, info := range j.planned.Steps {
		j.worker.Skipped(info.Step)
	}
	j.layers = j.root.Layers()
	j.pushes.offer(ctx, j.layers...)
	return nil
}

// steps lists what people see of the graph.
func (j *job) steps() []*solve.Step {
	var steps []*solve.Step
	for _, info := range j.planned.Steps {
		steps = append(steps, info.Step)
	}
	return steps
}

// follow gives the step whose layers lie below those of s. The layers that a
// stack adds ship too.
func follow(s *solve.Step, chain map[*solve.Step]bool) *solve.Step {
	if len(s.In) == 0 {
		return nil
	}
	if op, err := plan.DecodeOp(s); err == nil {
		if _, ok := op.(plan.Stack); ok {
			chain[s.In[1].Step] = true
		}
	}
	return s.In[0].Step
}

func (j *job) jobs() int {
	if j.opt.Jobs > 0 {
		return j.opt.Jobs
	}
	return runtime.NumCPU()
}

func (j *job) name(s *solve.Step) string {
	if info := j.infos[s]; info != nil {
		return info.Name
	}
	return ""
}

// StepError is the failure of a step: what was being done, where it stands in
// the Dockerfile and what it printed last.
type StepError struct {
	Name string   // "[build 2/4] RUN make"
	Tail []string // the last lines of its output
	Err  error    // a *dockerfile.Error
}

func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap gives the error with its place.
func (e *StepError) Unwrap() error { return e.Err }

// explain puts an error where it belongs in the Dockerfile.
func (j *job) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var at *solve.Error
	if !errors.As(err, &at) {
		return err
	}
	info := j.infos[at.Step]
	if info == nil {
		return err
	}
	return &StepError{Name: info.Name, Tail: j.worker.Tail(at.Step, 20), Err: j.file.At(at.Err, info.Ranges...)}
}

// defaults fills in what was left open, and checks what can be checked before
// anything is read.
func (o *Options) defaults() error {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Epoch != nil {
		o.Now = time.Unix(*o.Epoch, 0)
	}
	for i, tag := range o.Tags {
		name, err := registry.Normalize(tag)
		if err != nil {
			return fmt.Errorf("invalid tag: %w", err)
		}
		o.Tags[i] = name
	}
	for _, out := range o.Outputs {
		for i, name := range out.Names {
			full, err := registry.Normalize(name)
			if err != nil {
				return fmt.Errorf("invalid name of --output: %w", err)
			}
			out.Names[i] = full
		}
	}
	return nil
}
