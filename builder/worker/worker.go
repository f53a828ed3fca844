// Package worker carries out the steps of a plan: it pulls, copies and runs,
// and turns what came of it into layers.
//
// A step's result is a stack of layers, and each [Layer] is a promise: what it
// says of each path is known first, its tree and its compressed blob follow
// when someone asks or when the pipeline behind a finished step gets there. So
// the next RUN starts while the last one's layer is still being compressed, a
// base whose files nobody looks at is never pulled, and COPY writes a layer
// without a tree unless a RUN needs one.
//
// The worker implements [solve.Runner]. It touches the kernel through sandbox,
// the disk through store and the network through registry, and nothing else.
package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/agent"
	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
)

// Options say what a worker works with and for.
type Options struct {
	Store    *store.Store
	Cache    *cache.Cache
	Registry *registry.Client
	Progress *progress.Reporter
	// Imports, if set, gives the caches that were made elsewhere, as soon as
	// they are read. The store is asked first.
	Imports func(context.Context) []*remote.Cache
	// Folders, if set, gives the folders for cache mounts that others left.
	Folders  func(context.Context) []*remote.Folders
	Contexts map[string]*source.Dir // by name; "" is the main one
	Secrets  *secret.Set            // that steps may use
	Agents   *agent.Set             // ssh agents that steps may use

	// Agent opens the ssh agent that git sources may use, and gives its socket. Nil:
	// there is none.
	Agent func(context.Context) (socket string, done func() error, err error)

	Limits      Limits            // of what comes from elsewhere
	Isolation   sandbox.Isolation // of commands
	StepTimeout time.Duration     // after which a RUN's command is killed; 0: never
	Groups      *cgroup.Maker     // of control groups for RUNs; nil: they have none
	Jobs        int               // how many steps run at once
	Compression Form              // of layers in an output's chain
	Now         time.Time         // the time of directories that the builder makes itself

	// Name tells how a step is shown; "" keeps it out of the display.
	Name func(*solve.Step) string
	// Ships tells whether a step's layer is part of an image that the build
	// gives out. Other layers are kept in a form that costs less to make.
	Ships func(*solve.Step) bool
	// Made, if set, is called with each layer made by a step that ships, as soon
	// as the step is done; the layer's blob may still be on its way.
	Made func(*Layer)
	// Grows, if set, is called with a layer that Made was or will be called with, while
	// it is being compressed and has become large, and what reads its blob meanwhile, to
	// the end. It is the callee's to close.
	Grows func(*Layer, io.ReadCloser)
	// Runs, if set, is called before each RUN that is carried out.
	Runs func()
}

// Worker carries out steps. See [New].
type Worker struct {
	Options
	ctx     context.Context // the build's: pipelines outlive the steps that began them
	slots   chan struct{}   // steps that run
	presses chan struct{}   // layers being compressed
	behind  sync.WaitGroup  // pipelines under way

	mu       sync.Mutex
	vertices map[*solve.Step]*progress.Vertex
	misses   map[*solve.Step]time.Time
	loaded   map[solve.Key]*Result
	images   map[string]*Image
	fetches  map[*remote.Cache]*fetching
	folders  map[string]string // cache folders that RUNs had: key -> id
	failed   error             // of the first pipeline that failed
	stubs    string            // where the sandbox keeps mount points

	views    onceMap[*Result, views]
	picks    onceMap[pickKey, *picked]
	digests  sync.Map // of what was picked: pickKey -> string
	shipping onceMap[string, layer.Blob]
	exports  exports
	remote   remotes
	merged   onceMap[string, string]
	runs     onceMap[*Result, string]
	copies   onceMap[pickKey, *contextCopy]
	plain    plainTrees
	alone    sync.Mutex // commands by chroot run one at a time: they move folders
}

var _ solve.Runner[*Result] = (*Worker)(nil)

// New makes a worker for one build. Its pipelines end with ctx; call
// [Worker.Wait] before the store is closed.
func New(ctx context.Context, o Options) *Worker {
	w := &Worker{
		Options:  o,
		ctx:      ctx,
		slots:    make(chan struct{}, max(o.Jobs, 1)),
		presses:  make(chan struct{}, 2),
		vertices: map[*solve.Step]*progress.Vertex{},
		misses:   map[*solve.Step]time.Time{},
		loaded:   map[solve.Key]*Result{},
		images:   map[string]*Image{},
		fetches:  map[*remote.Cache]*fetching{},
		exports:  exports{vertex: o.Progress.Vertex("exporting layers")},
		plain:    plainTrees{trees: map[*Result]*plainTree{}},
	}
	w.newRemotes()
	w.plain.kind = sync.OnceValues(w.snapshots)
	return w
}

// Wait waits for the pipelines behind finished steps and gives the first error
// of one. Every layer has its blob, index and record afterwards.
func (w *Worker) Wait() error {
	w.behind.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, img := range w.images {
		img.rest()
	}
	w.remote.close()
	w.exports.end(w.failed)
	return w.failed
}

// Pin implements [solve.Runner]: images and scratch have an identity of their
// own, contexts are known by what is selected from them, and of what is fetched
// its server is asked.
func (w *Worker) Pin(ctx context.Context, s *solve.Step) (string, error) {
	op, err := plan.DecodeOp(s)
	if err != nil {
		return "", err
	}
	switch op := op.(type) {
	case plan.Context:
		return "", nil
	case plan.Git:
		return w.pinGit(ctx, s, op)
	case plan.HTTP:
		return w.pinHTTP(ctx, s, op)
	}
	return "op", nil // the op itself holds the diff IDs
}

// Lock implements [solve.Runner].
func (w *Worker) Lock(ctx context.Context, s *solve.Step, key solve.Key) (func(), error) {
	w.begun(s)
	var begin time.Time
	unlock, err := w.Store.Lock(ctx, "step "+string(key), func() {
		begin = time.Now()
		w.vertex(s).Log(2, []byte("waiting for another build that runs this step\n"))
	})
	if !begin.IsZero() {
		w.waited(s, "waits for another build", begin)
	}
	return unlock, err
}

// Run implements [solve.Runner].
func (w *Worker) Run(ctx context.Context, j solve.Job[*Result]) (*Result, error) {
	op, err := plan.DecodeOp(j.Step)
	if err != nil {
		j.Unlock()
		return nil, err
	}
	switch op := op.(type) {
	case plan.Scratch:
		return &Result{}, nil
	case plan.Context:
		return w.context(op)
	case plan.Git:
		return w.checkout(ctx, j.Step, op)
	case plan.HTTP:
		return w.download(ctx, j.Step, op)
	case plan.Image:
		return w.image(op, w.vertex(j.Step)), nil
	case plan.Stack:
		defer j.Unlock()
		return w.stack(j), nil
	}
	return w.work(ctx, j, op)
}

func (w *Worker) context(op plan.Context) (*Result, error) {
	dir, ok := w.Contexts[op.Name]
	if !ok {
		return nil, fmt.Errorf("there is no build context %q", op.Name)
	}
	return &Result{dir: dir}, nil
}

// work runs a step that makes a layer: it holds a slot, shows the step, and
// leaves the layer to the pipeline.
func (w *Worker) work(ctx context.Context, j solve.Job[*Result], op plan.Op) (r *Result, err error) {
	v := w.vertex(j.Step)
	handed := false
	defer func() {
		if !handed {
			j.Unlock()
		}
	}()
	// Trees are fetched and unpacked before the slot is taken: waiting for a
	// registry must not keep another step from running.
	var with *mounted
	if run, ok := op.(plan.Run); ok {
		if w.Runs != nil {
			w.Runs()
		}
		end := w.span(j.Step, "prepares the tree")
		with, err = w.prepare(ctx, j, run, v)
		end()
		if err != nil {
			return nil, w.fail(ctx, v, err)
		}
		defer with.release()
	}
	waited := w.wait(j.Step, "waits for a turn (--jobs)")
	select {
	case w.slots <- struct{}{}:
		waited()
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	v.Start()
	made, err := w.perform(ctx, j, op, v, with)
	if err != nil {
		return nil, w.fail(ctx, v, err)
	}
	v.Done(nil)
	handed = true
	return w.deliver(j, made), nil
}

// perform does the work of one step.
func (w *Worker) perform(ctx context.Context, j solve.Job[*Result], op plan.Op, v *progress.Vertex, with *mounted) (*work, error) {
	switch op := op.(type) {
	case plan.Copy:
		return w.copy(ctx, j, op)
	case plan.Workdir:
		return w.workdir(ctx, j, op)
	case plan.Run:
		return w.run(ctx, j, op, v, with)
	}
	return nil, fmt.Errorf("no way to carry out %T", op)
}

// fail ends a step's display. A step that another one's error (or a signal)
// ended is canceled, not failed.
func (w *Worker) fail(ctx context.Context, v *progress.Vertex, err error) error {
	v.Start()
	err = w.onDisk(err)
	if ctx.Err() != nil {
		v.Done(context.Canceled)
		return context.Cause(ctx)
	}
	v.Done(err)
	return err
}

// onDisk names the store and the remedy when its disk is full: steps write nowhere else.
func (w *Worker) onDisk(err error) error {
	if !errors.Is(err, unix.ENOSPC) {
		return err
	}
	what, _ := strings.CutSuffix(err.Error(), ": "+unix.ENOSPC.Error())
	return w.Store.Explain(what, err)
}

// vertex is where a step is shown.
func (w *Worker) vertex(s *solve.Step) *progress.Vertex {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.vertices[s]
	if !ok {
		if name := w.Name(s); name != "" {
			v = w.Progress.Vertex(name)
		}
		w.vertices[s] = v
	}
	return v
}

// Skipped shows a step that nothing asked for, as what needs it was known.
func (w *Worker) Skipped(s *solve.Step) { w.vertex(s).Cached() }

// Tail gives the last lines that a step printed.
func (w *Worker) Tail(s *solve.Step, n int) []string { return w.vertex(s).Tail(n) }
