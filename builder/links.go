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

// linkError reports that a target cannot be planned because one that it uses cannot.
type linkError struct {
	target string
	err    error
}

func (e *linkError) Error() string { return fmt.Sprintf("target %s: %v", e.target, e.err) }
func (e *linkError) Unwrap() error { return e.err }

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
		return nil, &linkError{name, to.err}
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
// images. Steps that targets share are one step.
func (b *build) planAll(ctx context.Context) error {
	for i, p := range b.targets {
		p.index, p.done = i, make(chan struct{})
	}
	var g sync.WaitGroup
	for _, p := range b.targets {
		g.Go(func() {
			defer close(p.done)
			p.err = p.plan(ctx, b)
		})
	}
	g.Wait()
	var errs []error
	for _, p := range b.targets {
		var link *linkError
		if p.err != nil && !errors.As(p.err, &link) {
			errs = append(errs, b.ofTarget(p, p.err))
		}
	}
	if err := ctx.Err(); err != nil && len(errs) > 0 {
		return context.Cause(ctx)
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

// ofTarget adds the name of a target to an error, if there are several targets.
func (b *build) ofTarget(p *planned, err error) error {
	if len(b.targets) == 1 || p.Name == "" || err == nil {
		return err
	}
	return fmt.Errorf("target %s: %w", p.Name, err)
}
