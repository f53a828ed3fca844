package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"time"

	"github.com/cairn-build/cairn/builder/agent"
	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"golang.org/x/sync/errgroup"
)

// Build builds an image and hands it over. When a step fails the error is a
// [*StepError]; an error in the Dockerfile itself is a [*dockerfile.Error]. Once
// there is a plan, its warnings are there beside an error.
func (b *Builder) Build(ctx context.Context, o Options) (*Built, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	groups, err := b.Isolation.Limit(o.Limits)
	if err != nil {
		return nil, err
	}
	defer b.leave(groups)
	j, err := b.parse(ctx, o)
	if err != nil {
		return nil, err
	}
	defer j.close()
	j.groups = groups
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
	return &j.built, j.without(ctx, err)
}

// leave takes back what was done to limit commands.
func (b *Builder) leave(groups *cgroup.Maker) {
	if err := groups.Close(); err != nil {
		b.Progress.Warn("%v", err)
	}
}

// without builds again when a build ended at a blob that was damaged and is gone
// now, once for each such blob.
func (j *job) without(ctx context.Context, err error) error {
	seen := map[layer.Digest]bool{}
	var damaged *store.DamagedError
	for errors.As(err, &damaged) && ctx.Err() == nil && !seen[damaged.Digest] {
		seen[damaged.Digest] = true
		j.Progress.Warn("blob %s was damaged on disk and is dropped: building again without it", damaged.Digest)
		err = j.make(ctx)
	}
	return err
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
		{"assemble", func() error { return j.assembleAll(ctx) }},
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
	images     []*image // at least one, once there are plans
	infos      map[*solve.Step]*plan.StepInfo
	imports    *imports
	folders    func(context.Context) []*remote.Folders
	solver     *solve.Solver[*worker.Result]
	worker     *worker.Worker
	groups     *cgroup.Maker
	pushes     []*pushes // one for each form
	formed     map[Form]formed
	built      Built
	inputs
}

// image is the image of one platform on its way through the phases.
type image struct {
	*job
	planned *plan.Plan
	chain   map[*solve.Step]bool // steps whose layers the image has
	root    *worker.Result
	layers  []*worker.Layer // bottom first
	made    layer.Image
}

// pushesDone waits for what is on its way, which reads what close closes.
func (j *job) pushesDone() {
	for _, p := range j.pushes {
		_ = p.wait() // told by finish, or something else failed before
	}
}

func (j *job) close() {
	if j.context != nil {
		leave(j.context)
	}
	j.inputs.close()
}

// plan turns the Dockerfile into a graph of steps, with a root for each platform.
func (j *job) plan(ctx context.Context) error {
	plans, err := plan.MakeEach(ctx, j.input(), j.platforms())
	if err != nil {
		return err
	}
	j.built.File = j.file
	j.infos = map[*solve.Step]*plan.StepInfo{}
	for _, p := range plans {
		j.images = append(j.images, &image{job: j, planned: p})
		j.advise(p.Warnings)
		for _, info := range p.Steps {
			if _, ok := j.infos[info.Step]; !ok {
				j.infos[info.Step] = info
			}
		}
	}
	if err := j.checkForms(); err != nil {
		return err
	}
	if err := j.checkAnnotations(); err != nil {
		return err
	}
	return j.enterNamed(ctx)
}

// platforms are those to build for; the zero value is this machine's.
func (j *job) platforms() []layer.Platform {
	if len(j.opt.Platforms) == 0 {
		return []layer.Platform{{}}
	}
	return j.opt.Platforms
}

// advise shows warnings, those that several platforms have in common once.
func (j *job) advise(all []plan.Warning) {
	earlier := j.built.Warnings // one platform may have the same twice
	for _, w := range all {
		if slices.ContainsFunc(earlier, func(old plan.Warning) bool { return reflect.DeepEqual(old, w) }) {
			continue
		}
		j.built.Warnings = append(j.built.Warnings, w)
		j.definition.Advise(Advice(j.file, w))
	}
}

// input is what the plan is made from.
func (j *job) input() plan.Input {
	return plan.Input{
		File: j.file, Target: j.opt.Target, Platform: j.platforms()[0], Args: j.opt.Args, Labels: j.opt.Labels,
		Network: j.opt.Network, AddHosts: j.opt.AddHosts, ShmSize: j.opt.ShmSize, Ulimits: j.opt.Ulimits,
		Allow: j.opt.Allow, NoCache: j.opt.NoCache, Epoch: j.opt.Epoch,
		Anew: j.opt.Anew, Full: j.full, Base: j.base, Named: j.named, EpochOf: j.epochOf,
		Ignored: func(path string) bool {
			if j.context == nil || j.context.Exceptions() { // hard to say beforehand what comes back
				return false
			}
			_, ok := j.context.Ignored(path)
			return ok
		},
	}
}

// solve gets the results of the graph's roots: every step that they need and that
// is not known is run. Layers that the images will hold are pushed as they come.
func (j *job) solve(ctx context.Context, cancel context.CancelCauseFunc) (err error) {
	for _, img := range j.images {
		img.chain = map[*solve.Step]bool{}
		for s := img.planned.Root; s != nil; s = follow(s, img.chain) {
			img.chain[s] = true
		}
	}
	j.worker = worker.New(ctx, worker.Options{
		Store: j.Store, Cache: cache.New(j.Store), Registry: j.Registry, Progress: j.Progress, Isolation: j.Isolation, Limits: j.Limits,
		Contexts: j.contexts, Secrets: j.secrets, Agents: j.agents,
		Agent:       j.gitAgent(),
		StepTimeout: j.opt.StepTimeout,
		Groups:      j.groups,
		Jobs:        j.jobs(), Compression: j.opt.Compression, Now: j.opt.Now,
		Name:    func(s *solve.Step) string { return j.name(s) },
		Ships:   j.ships,
		Imports: j.imports.wait,
		Folders: j.folders,
		Made:    func(l *worker.Layer) { j.offer(ctx, l) },
		Grows:   func(l *worker.Layer, r io.ReadCloser) { j.ahead(ctx, l, r) },
		Runs: func() {
			for _, p := range j.pushes {
				p.rights(ctx)
			}
		},
	})
	// Pipelines file the records of finished steps even when a later step fails.
	defer func() {
		if waitErr := j.worker.Wait(); err == nil && waitErr != nil {
			err = j.explain(ctx, waitErr)
		}
		if err != nil {
			cancel(err)
		}
	}()
	if err := j.preparePushes(ctx, cancel); err != nil {
		return err
	}
	j.solver = solve.New[*worker.Result](ctx, j.worker)
	ahead, stop := context.WithCancel(ctx)
	defer stop()
	j.worker.Ahead(ahead, j.steps())
	var roots errgroup.Group
	for _, img := range j.images {
		roots.Go(func() error { return img.solve(ctx) })
	}
	if err := roots.Wait(); err != nil {
		return j.explain(ctx, err)
	}
	for _, s := range j.steps() {
		j.worker.Skipped(s)
	}
	return nil
}

// solve gets the result of one root. An image without a layer has none.
func (img *image) solve(ctx context.Context) (err error) {
	if img.planned.Root == nil {
		return nil
	}
	if img.root, err = img.solver.Solve(img.planned.Root); err != nil {
		return err
	}
	img.layers = img.root.Layers()
	img.offer(ctx, img.layers...)
	return nil
}

// ships tells whether a step's layer is one of an image.
func (j *job) ships(s *solve.Step) bool {
	return slices.ContainsFunc(j.images, func(img *image) bool { return img.chain[s] })
}

// steps lists what people see of the graph.
func (j *job) steps() []*solve.Step {
	var steps []*solve.Step
	for _, img := range j.images {
		for _, info := range img.planned.Steps {
			steps = append(steps, info.Step)
		}
	}
	return steps
}

// follow gives the step whose layers lie below those of s. The layers that a
// stack adds ship too.
func follow(s *solve.Step, chain map[*solve.Step]bool) *solve.Step {
	if len(s.In) == 0 {
		return nil
	}
	if plan.Kind(s) == "stack" {
		chain[s.In[1].Step] = true
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
