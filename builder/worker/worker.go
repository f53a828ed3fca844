// Package worker carries out the steps of a plan and turns their results into layers.
//
// Package filecopy computes COPY and ADD, and package snapshot keeps the layers of all
// steps. The worker runs commands in the sandbox with their mounts, downloads the files
// of ADD, and finds and files the records of results.
//
// The next step starts as soon as the changes of the last are known: its layer is
// compressed in the background.
//
// [Worker] implements [solve.Runner].
package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/builder/sshagent"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/store"
)

// Options configures a [Worker].
type Options struct {
	Store    *store.Store
	Cache    *cache.Cache
	Registry snapshot.Registry
	Progress *progress.Reporter

	Steps    map[*solve.Step]Step // of steps that are displayed or exported
	Past     []cache.Past         // steps of the last build of the same targets
	Exporter Exporter             // takes the layers of images; nil: there are none
	Debugger Debugger             // stops the build at steps; nil: never

	// RemoteCaches and CacheMounts, unless nil, return the caches and the contents of
	// cache mounts to import. They wait until these have been read. The store is asked
	// first.
	RemoteCaches func(context.Context) []*remote.Cache
	CacheMounts  func(context.Context) []*remote.CacheMounts

	Contexts map[string]*source.Dir // by name
	// Credentials are those that steps may use, by the origin in their op.
	Credentials map[string]Credentials

	Limits      limits.Limits // of downloaded layers and files
	Isolation   sandbox.Isolation
	ResolvConf  string               // content of /etc/resolv.conf of a RUN; "": this machine's
	Jobs        int                  // the number of steps that run at once
	Compression snapshot.Compression // of layers of images
	Now         time.Time            // the time of files that the builder makes itself
}

// Credentials are secrets, agents, and the fetchers that use them.
type Credentials struct {
	Secrets *secret.Set
	Agents  *sshagent.Set       // ssh agents
	Git     *git.Source         // for ADD; nil if no step has a repository as its source
	HTTP    *httpsource.Fetcher // for ADD; nil if no step downloads a file
}

// Step describes a step to the worker.
type Step struct {
	Name     string // for the display; "" hides the step
	Target   string // of several, in the display; "" is none
	Exported bool   // the step's layer is part of an image that the build exports
	Limits   StepLimits
	Place    Place
}

// StepLimits limit the command of a RUN.
type StepLimits struct {
	Timeout time.Duration // 0: none
	Cgroups *cgroup.Maker // nil: none
}

// Exporter takes the layers of images while the build goes on. Its methods are called
// concurrently and return at once.
type Exporter interface {
	// Add is called with the layer of each exported step as soon as the step is done. The
	// layer's blob may still be being written.
	Add(s *solve.Step, l *snapshot.Layer)
	// Follow is called with an exported layer whose blob has become large, and a reader
	// of the blob while it is written. The exporter closes the reader.
	Follow(s *solve.Step, l *snapshot.Layer, blob io.ReadCloser)
	// BeforeRun is called before each command that is run.
	BeforeRun()
}

// Worker carries out steps. See [New].
type Worker struct {
	Options
	ctx        context.Context // of the build
	layers     *snapshot.Manager
	display    *display
	records    *records
	misses     *misses
	selections *selections
	downloads  *downloads
	commands   *commands
	slots      chan struct{}  // steps that run
	background sync.WaitGroup // look-ups by Prefetch
}

var _ solve.Runner[*Result] = (*Worker)(nil)

// New returns a worker for one build. Call [Worker.Wait] before closing the store.
func New(ctx context.Context, o Options) *Worker {
	d := newDisplay(o.Progress, o.Store, o.Steps)
	w := &Worker{Options: o, ctx: ctx, display: d, slots: make(chan struct{}, max(o.Jobs, 1))}
	w.layers = snapshot.New(ctx, snapshot.Options{
		Store: o.Store, Registry: o.Registry, Progress: o.Progress, Isolation: o.Isolation, Limits: o.Limits,
		Compression: o.Compression, Listings: w.remoteListing,
	})
	w.records = &records{ctx: ctx, cache: o.Cache, store: o.Store, layers: w.layers, display: d, remote: w.remoteCaches, loaded: map[solve.Key]*Result{}}
	w.misses = newMisses(o.Store, d, o.Past)
	w.records.found = w.misses.found
	w.selections = &selections{}
	w.downloads = &downloads{credentials: o.Credentials, store: o.Store, display: d}
	w.commands = &commands{
		store: o.Store, layers: w.layers, isolation: o.Isolation, resolvConf: o.ResolvConf,
		credentials: o.Credentials, selections: w.selections, display: d,
		debugger: o.Debugger,
		caches:   &cacheMounts{store: o.Store, layers: w.layers, limits: o.Limits, progress: o.Progress, remote: o.CacheMounts},
	}
	return w
}

// Layers returns the manager of the layers that the steps make.
func (w *Worker) Layers() *snapshot.Manager { return w.layers }

// Wait waits for the pipelines of finished steps and returns the first error of one. If
// it returns nil, every layer has its blob, listing and record.
func (w *Worker) Wait() error {
	w.background.Wait()
	err := w.layers.Wait()
	w.downloads.close()
	return err
}

func (w *Worker) remoteCaches() []*remote.Cache {
	if w.RemoteCaches == nil {
		return nil
	}
	return w.RemoteCaches(w.ctx)
}

// remoteListing returns the listing that a remote cache has of a layer, or nil.
func (w *Worker) remoteListing(ctx context.Context, diffID layer.Digest) *listing.Listing {
	if w.RemoteCaches == nil {
		return nil
	}
	for _, c := range w.RemoteCaches(ctx) {
		if !c.HasIndex(diffID) {
			continue
		}
		x, err := c.Index(ctx, diffID)
		if err == nil {
			return x
		}
		if ctx.Err() == nil {
			w.Progress.Warn("%v: reading the layer itself", err)
		}
	}
	return nil
}

// Pin implements [solve.Runner]. Images and scratch are identified by their op, contexts
// by the files that are selected, and downloads by the answer of their server.
func (w *Worker) Pin(ctx context.Context, s *solve.Step) (string, error) {
	o, err := op.Decode(s)
	if err != nil {
		return "", err
	}
	switch o := o.(type) {
	case op.Context:
		return "", nil
	case op.Git:
		return w.downloads.pinGit(ctx, s, o)
	case op.HTTP:
		return w.downloads.pinHTTP(ctx, s, o)
	}
	return OpPin, nil
}

// OpPin is the pin of steps that their op identifies, as images by their diff IDs.
const OpPin = "op"

// Prefetch asks the servers of all downloads at once for their current versions. Pin
// would ask one after the other.
func (w *Worker) Prefetch(ctx context.Context, steps []*solve.Step) {
	for _, s := range steps {
		if op.Fetched(s) {
			w.background.Go(func() { _, _ = w.Pin(ctx, s) }) // the solver's Pin gets the error
		}
	}
}

// Lock implements [solve.Runner].
func (w *Worker) Lock(ctx context.Context, s *solve.Step, key solve.Key) (func(), error) {
	w.display.hasInputs(s)
	var begin time.Time
	unlock, err := w.Store.Lock(ctx, "step "+string(key), func() {
		begin = time.Now()
		w.display.vertex(s).Log(2, []byte("waiting for another build that runs this step\n"))
	})
	if !begin.IsZero() {
		w.Progress.WaitSince(w.display.lane(s), "waits for another build", begin)
	}
	return unlock, err
}

// Load implements [solve.Runner].
func (w *Worker) Load(_ context.Context, s *solve.Step, key solve.Key) (*Result, solve.Key, bool) {
	r, ok := w.records.load(s, key)
	if !ok {
		return nil, "", false
	}
	return r, r.key, true
}

// Alias implements [solve.Runner].
func (w *Worker) Alias(_ context.Context, s *solve.Step, key, content solve.Key, _ *Result) {
	w.records.alias(s, key, content)
}

// Run implements [solve.Runner].
func (w *Worker) Run(ctx context.Context, j solve.Job[*Result]) (*Result, error) {
	o, err := op.Decode(j.Step)
	if err != nil {
		j.Unlock()
		return nil, err
	}
	switch o := o.(type) {
	case op.Scratch:
		return &Result{stack: w.layers.Empty()}, nil
	case op.Context:
		dir, ok := w.Contexts[o.Name]
		if !ok {
			return nil, fmt.Errorf("there is no build context %q", o.Name)
		}
		return &Result{dir: dir}, nil
	case op.Git:
		dir, err := w.downloads.checkout(ctx, j.Step, o)
		return &Result{dir: dir}, err
	case op.HTTP:
		file, err := w.downloads.file(ctx, j.Step, o)
		return &Result{stack: w.layers.Empty(), file: file}, err
	case op.Image:
		return w.records.image(o, w.display.vertex(j.Step)), nil
	case op.Stack:
		defer j.Unlock()
		return w.records.stack(j), nil
	}
	return w.runStep(ctx, j, o)
}

// made is the layer of a step before it is written.
type made struct {
	changes snapshot.Changes
	root    *snapshot.Root // of a RUN
	reduced bool           // the changes are valid over the layers below only
}

// runStep runs a step that makes a layer. It waits for a free slot, displays the step,
// and starts the pipeline of the layer.
func (w *Worker) runStep(ctx context.Context, j solve.Job[*Result], o op.Op) (_ *Result, err error) {
	v := w.display.vertex(j.Step)
	handedOver := false
	defer func() {
		if !handedOver {
			j.Unlock()
		}
	}()
	// Trees are fetched and unpacked before the slot is taken: a step that waits for a
	// registry must not keep another from running.
	mounts, err := w.prepare(ctx, j, o)
	if err != nil {
		return nil, w.display.failed(ctx, v, err)
	}
	defer func() { mounts.close() }()
	waited := w.Progress.Starve(w.display.lane(j.Step))
	select {
	case w.slots <- struct{}{}:
		waited()
		defer func() { <-w.slots }()
	case <-ctx.Done():
		waited()
		return nil, context.Cause(ctx)
	}
	if err := w.mayStart(ctx); err != nil {
		return nil, err
	}
	v.Start()
	w.display.runs(j.Step)
	copied, isCopy := o.(op.Copy)
	if !isCopy {
		w.misses.note(j, nil)
	}
	m, err := w.makeLayer(ctx, j, o, mounts)
	for errors.Is(err, errAgain) {
		mounts.close()
		if mounts, err = w.prepare(ctx, j, o); err == nil {
			m, err = w.makeLayer(ctx, j, o, mounts)
		}
	}
	if err != nil {
		return nil, w.display.failed(ctx, v, err)
	}
	if isCopy {
		w.misses.note(j, w.misses.copied(m.changes, copied))
	}
	w.misses.count(j.Step, m.changes.Len())
	v.Done(nil)
	handedOver = true
	return w.addLayer(j, m), nil
}

// prepare prepares the tree and the mounts of a step, if it is a RUN.
func (w *Worker) prepare(ctx context.Context, j solve.Job[*Result], o op.Op) (*mountSet, error) {
	run, ok := o.(op.Run)
	if !ok {
		return &mountSet{}, nil
	}
	if w.Exporter != nil {
		w.Exporter.BeforeRun()
	}
	defer w.display.span(j.Step, "prepares the tree")()
	mounts, err := w.prepareRun(ctx, j, run)
	if mounts == nil {
		mounts = &mountSet{}
	}
	return mounts, err
}

// prepareRun fetches and unpacks the trees that a RUN needs.
func (w *Worker) prepareRun(ctx context.Context, j solve.Job[*Result], o op.Run) (*mountSet, error) {
	if err := w.Isolation.CheckRun(); err != nil {
		return nil, err
	}
	if _, err := j.In[0].stack.Trees(ctx); err != nil {
		return nil, err
	}
	return w.commands.mounts(ctx, j, o)
}

// makeLayer carries out one step.
func (w *Worker) makeLayer(ctx context.Context, j solve.Job[*Result], o op.Op, mounts *mountSet) (made, error) {
	if _, ok := o.(op.Run); !ok {
		if err := w.stopBeforeFiles(ctx, j); err != nil {
			return made{}, err
		}
	}
	switch o := o.(type) {
	case op.Copy:
		return w.copyFiles(ctx, j, o)
	case op.Workdir:
		return w.workdir(ctx, j, o)
	case op.Run:
		return w.commands.run(ctx, j, o, mounts)
	}
	return made{}, fmt.Errorf("unknown operation %T", o)
}

// addLayer returns the result of a step, and starts the pipeline that writes its layer
// and its record.
func (w *Worker) addLayer(j solve.Job[*Result], m made) *Result {
	step := w.Steps[j.Step]
	n := snapshot.NewLayer{
		Changes: m.changes, Root: m.root, Name: step.Name, Lane: w.display.lane(j.Step), Exported: step.Exported,
		Written: func(l *snapshot.Layer, b layer.Descriptor) {
			rec := cache.Record{Below: string(j.In[0].key), Layers: []layer.Descriptor{b}, Created: l.Created().UnixNano()}
			if m.reduced {
				chain, err := j.In[0].stack.ChainID(w.ctx)
				if err != nil {
					return // the layers below have failed
				}
				rec.On = chain
			}
			w.records.put(j, rec)
			w.misses.keep(j.Step, string(j.Content), j.Step.Op, j.Parts, b.DiffID)
		},
		WrapError: func(err error) error {
			return &solve.Error{Step: j.Step, Err: fmt.Errorf("writing the layer of %s: %w", step.Name, w.Store.ExplainFull(err))}
		},
		Done: j.Unlock,
	}
	exported := step.Exported && w.Exporter != nil
	if exported {
		n.Follow = func(l *snapshot.Layer, blob io.ReadCloser) { w.Exporter.Follow(j.Step, l, blob) }
	}
	r := &Result{stack: j.In[0].stack.Add(n), key: j.Content}
	if exported {
		w.Exporter.Add(j.Step, r.stack.Top())
	}
	return r
}

// Skipped displays a step as cached that the build did not need.
func (w *Worker) Skipped(s *solve.Step) { w.display.vertex(s).Cached() }

// Ran reports whether a step was run, or is running.
func (w *Worker) Ran(s *solve.Step) bool { return w.display.ran(s) }

// Tail returns the last n lines that a step printed.
func (w *Worker) Tail(s *solve.Step, n int) []string { return w.display.vertex(s).Tail(n) }

// PackCacheMounts writes the content of the cache mounts that RUNs of this build used to
// the store, to be exported.
func (w *Worker) PackCacheMounts(ctx context.Context) ([]remote.CacheMount, error) {
	return w.commands.caches.pack(ctx)
}

// Known returns the result of a step that the store or a remote cache has, to be written
// to a cache. It returns false if there is none.
func (w *Worker) Known(ctx context.Context, s *solve.Step, key solve.Key) (remote.Step, bool) {
	return w.records.export(ctx, s, key, w.Steps[s].Exported)
}
