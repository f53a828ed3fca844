package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/reference"
)

// links are the uses of targets by other targets. A target is planned when the targets
// that it uses are.
type links struct {
	byName map[string]*planned
	byTag  map[string]*planned // only with SessionOptions.LinkTags

	mu   sync.Mutex
	uses map[*planned][]*planned
}

// newLinks returns links between targets, whose names must differ.
func newLinks(targets []*planned, byTag bool) (*links, error) {
	l := &links{byName: map[string]*planned{}, byTag: map[string]*planned{}, uses: map[*planned][]*planned{}}
	for _, p := range targets {
		if p.Name == "" {
			continue
		}
		if l.byName[p.Name] != nil {
			return nil, fmt.Errorf("two targets are called %s: rename one", p.Name)
		}
		l.byName[p.Name] = p
		if byTag {
			for _, tag := range p.Tags {
				l.byTag[tag] = p
			}
		}
	}
	return l, nil
}

// add notes that a target uses another. It returns an error if that one needs the first.
func (l *links) add(from, to *planned) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if path := l.path(to, from, map[*planned]bool{}); path != nil {
		names := []string{from.Name}
		for _, p := range path {
			names = append(names, p.Name)
		}
		return fmt.Errorf("targets need each other: %s: remove one of the links", strings.Join(names, " -> "))
	}
	if !slices.Contains(l.uses[from], to) {
		l.uses[from] = append(l.uses[from], to)
	}
	return nil
}

// path returns the targets between two targets, both included, or nil.
func (l *links) path(from, to *planned, seen map[*planned]bool) []*planned {
	if from == to {
		return []*planned{from}
	}
	seen[from] = true
	for _, next := range l.uses[from] {
		if !seen[next] {
			if rest := l.path(next, to, seen); rest != nil {
				return append([]*planned{from}, rest...)
			}
		}
	}
	return nil
}

// LinkError reports that a target cannot be built because one that it uses cannot be
// planned.
type LinkError struct {
	Target string // that is used
	Err    error
}

func (e *LinkError) Error() string { return fmt.Sprintf("target %s: %v", e.Target, e.Err) }

// Unwrap returns the error of the target that is used.
func (e *LinkError) Unwrap() error { return e.Err }

// linked returns the plan of another target, for the named contexts of a target.
func (b *build) linked(ctx context.Context, from *planned, name string, platform layer.Platform) (*plan.Plan, error) {
	to := b.links.byName[name]
	if err := b.links.add(from, to); err != nil {
		return nil, err
	}
	select {
	case <-to.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if to.err != nil {
		return nil, &LinkError{name, to.err}
	}
	if len(to.plans) == 1 {
		return to.plans[0], nil
	}
	var built []string
	for _, made := range to.plans {
		if made.Platform.Full() == platform.Normalized().Full() {
			return made, nil
		}
		built = append(built, made.Platform.Full())
	}
	return nil, fmt.Errorf("target %s is not built for %s, but for %s: add the platform to it", name, platform, strings.Join(built, ", "))
}

// tagged returns the name of the target that makes the image of a reference for a FROM
// of another target.
func (b *build) tagged(from *planned, ref string) string {
	to := b.links.byTag[ref]
	if to == nil || to == from {
		return ""
	}
	if _, told := from.linkTold.LoadOrStore(ref, true); !told {
		v := b.session.Progress.Vertex(fmt.Sprintf("[%s internal] %s is the image of target %s", from.Name, reference.Familiar(ref), to.Name))
		v.Start()
		v.Done(nil)
	}
	return to.Name
}

// planAll plans the targets concurrently, since planning asks registries for base
// images. Steps that targets share are one step. The error has those of all targets; if
// the build goes on after failures, it only leaves out the targets that have one.
func (b *build) planAll(ctx context.Context) error {
	for _, p := range b.all {
		p.done = make(chan struct{})
	}
	var g sync.WaitGroup
	for _, p := range b.all {
		g.Go(func() {
			defer close(p.done)
			if p.err == nil {
				p.err = p.plan(ctx, b)
			}
		})
	}
	g.Wait()
	var errs []error
	b.targets = nil
	for _, p := range b.all {
		var link *LinkError
		if p.err != nil && !errors.As(p.err, &link) {
			errs = append(errs, b.ofTarget(p, p.err))
		}
		if p.err == nil {
			p.index = len(b.targets)
			b.targets = append(b.targets, p)
		}
	}
	switch err := ctx.Err(); {
	case err != nil && len(errs) > 0:
		return context.Cause(ctx)
	case b.session.KeepGoing && b.several:
		return nil
	}
	return joined(errs)
}

// joined is errors.Join, but returns a single error as it is.
func joined(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}
