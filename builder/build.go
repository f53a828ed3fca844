package builder

import (
	"context"
	"errors"
	"fmt"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

// build is one call of [Session.Build].
type build struct {
	session     *Session
	targets     []*planned
	cgroups     *cgroup.Maker
	caches      *cacheImports
	cacheMounts *cacheMountImports
}

// Build builds targets and exports their images. The results are in the order of the
// targets. The error of a failed step is a [*StepError], a syntax error in a Dockerfile
// a [*dockerfile.Error]. Once all targets are planned, the results have the warnings
// even if Build returns an error.
func (s *Session) Build(ctx context.Context, targets ...Target) ([]*Built, error) {
	if len(targets) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cgroups, err := s.Isolation.OpenCgroups(s.StepResources)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := cgroups.Close(); err != nil {
			s.Progress.Warn("%v", err)
		}
	}()
	b := &build{session: s, cgroups: cgroups}
	defer b.close()
	if err := b.open(ctx, targets); err != nil {
		return nil, err
	}
	b.caches = s.startCacheImports(ctx, b.targets)
	defer func() {
		cancel()
		b.caches.ended()
	}()
	b.cacheMounts = &cacheMountImports{session: s}
	if err := b.plan(ctx); err != nil {
		return nil, err
	}
	return b.run(ctx)
}

// open opens the inputs of the targets.
func (b *build) open(ctx context.Context, targets []Target) error {
	if err := checkStdin(targets); err != nil {
		return err
	}
	for i, t := range targets {
		scope := ""
		if len(targets) > 1 {
			scope = fmt.Sprintf("%d/", i)
		}
		p, err := b.session.open(ctx, t, scope)
		if err != nil {
			return err
		}
		b.targets = append(b.targets, p)
	}
	return nil
}

// checkStdin rejects targets of which more than one reads standard input.
func checkStdin(targets []Target) error {
	n := 0
	for _, t := range targets {
		if t.Context == "-" || t.Dockerfile == "-" {
			n++
		}
	}
	if n > 1 {
		return errors.New("only one target can read standard input")
	}
	return nil
}

func (b *build) close() {
	for _, p := range b.targets {
		p.close()
	}
}

// plan plans the targets. Steps that they share are one step.
func (b *build) plan(ctx context.Context) error {
	steps := plan.Interner{}
	for _, p := range b.targets {
		if err := p.plan(ctx, steps); err != nil {
			return err
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
