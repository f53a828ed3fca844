package builder

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/once"
	"github.com/cairn-build/cairn/layer/store"
)

// build is one call of [Session.Build].
type build struct {
	session     *Session
	all         []*planned // in the order of the results
	targets     []*planned // all, once they are planned without those that cannot be
	several     bool       // the build had more than one target to begin with
	links       *links
	resolved    once.Map[string, layer.Image] // base images
	cgroups     *cgroup.Maker
	caches      *cacheImports
	cacheMounts *cacheMountImports
	halter      *halter // nil: there are no breaks

	mu       sync.Mutex
	steps    *plan.Interner
	origins  *origins
	contexts map[*source.Dir]string // names in steps
}

// Build builds targets and exports their images. The results are in the order of the
// targets. The error of a failed step is a [*StepError], a syntax error in a Dockerfile
// a [*dockerfile.Error]. Once all targets are planned, the results have the warnings
// even if Build returns an error.
func (s *Session) Build(ctx context.Context, targets ...Target) ([]*Built, error) {
	if len(targets) == 0 {
		return nil, nil
	}
	s.announce(targets)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := s.newBuild()
	defer b.close()
	if err := b.open(ctx, targets); err != nil {
		return nil, err
	}
	if p := b.all[0]; p.err != nil && !b.several {
		return nil, p.err
	}
	var resources []cgroup.Limits
	for _, p := range b.all {
		if p.Resources != nil {
			resources = append(resources, *p.Resources)
		}
	}
	var err error
	if b.cgroups, err = s.Isolation.OpenCgroups(s.StepResources, resources...); err != nil {
		return nil, err
	}
	defer func() {
		if err := b.cgroups.Close(); err != nil {
			s.Progress.Warn("%v", err)
		}
	}()
	b.caches = s.startCacheImports(ctx, b.all)
	defer func() {
		cancel()
		b.caches.ended()
	}()
	b.cacheMounts = &cacheMountImports{session: s}
	if err := b.plan(ctx); err != nil {
		return nil, err
	}
	b.record()
	if len(b.targets) == 0 {
		return b.withUnplanned(nil, nil)
	}
	if err := b.findBreaks(); err != nil {
		return nil, err
	}
	return b.withUnplanned(b.run(ctx))
}

func (s *Session) newBuild() *build {
	b := &build{session: s, steps: plan.NewInterner(), origins: newOrigins(s.own), contexts: map[*source.Dir]string{}}
	b.resolved.KeepErrors = true // or each target would wait for the same registry
	return b
}

// planTargets opens and plans targets. Those that cannot be planned have an error if the
// build goes on after failures.
func (b *build) planTargets(ctx context.Context, targets []Target) error {
	if len(targets) == 0 {
		return nil
	}
	if err := b.open(ctx, targets); err != nil {
		return err
	}
	return b.plan(ctx)
}

// plan plans all targets and checks them against each other.
func (b *build) plan(ctx context.Context) error {
	if err := b.planAll(ctx); err != nil {
		return err
	}
	return errors.Join(b.separate(), b.checkConflicts())
}

// contextName returns the name of a context in steps.
func (b *build) contextName(dir *source.Dir) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	name, ok := b.contexts[dir]
	if !ok {
		name = strconv.Itoa(len(b.contexts))
		b.contexts[dir] = name
	}
	return name
}

// share replaces the steps of a target by equal steps of others. Steps with different
// credentials are not equal.
func (b *build) share(p *planned) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.several {
		for _, s := range p.ownSteps() {
			if err := b.origins.note(s, p.credentials); err != nil {
				return err
			}
		}
	} else {
		b.origins.credentials[""] = p.credentials.Credentials
	}
	for _, made := range p.plans {
		b.steps.Share(made)
	}
	return nil
}

// separate makes steps different that use different credentials of the same name, once
// all targets are planned.
func (b *build) separate() error {
	if !b.several {
		return nil
	}
	done := map[*solve.Step]bool{}
	for _, p := range b.targets {
		for _, s := range p.ownSteps() {
			if done[s] {
				continue
			}
			done[s] = true
			if err := b.origins.separate(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// run makes attempts until one succeeds or fails for a reason that another would not
// avoid. It tries again without remote caches if one has lost a layer, and without a
// blob of the store if that was damaged, once for each blob.
func (b *build) run(ctx context.Context) ([]*Built, error) {
	built, err := b.attempt(ctx)
	var gone *snapshot.GoneError
	if errors.As(err, &gone) && ctx.Err() == nil {
		b.session.Progress.Warn("%v: building without caches", gone)
		b.caches = nil
		built, err = b.attempt(ctx)
	}
	seen := map[layer.Digest]bool{}
	var damaged *store.DamagedError
	for errors.As(err, &damaged) && ctx.Err() == nil && !seen[damaged.Digest] {
		seen[damaged.Digest] = true
		b.session.Progress.Warn("blob %s was damaged on disk and has been removed: building again without it", damaged.Digest)
		built, err = b.attempt(ctx)
	}
	return built, err
}
