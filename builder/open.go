package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/plan"
)

// MakersOf returns the targets that make images of normalised references, on which the
// targets of a build are based. It leaves out those that the build has already.
type MakersOf func(refs []string) (Makers, error)

// Makers are targets that a build adds because others are based on their images.
type Makers struct {
	Targets   []Target
	CacheFrom []remote.Location // of all targets of the build
	CacheTo   []CacheTo
}

// open opens the inputs of the targets, and of those that make their base images. A
// target whose inputs cannot be opened has an error.
func (b *build) open(ctx context.Context, targets []Target) error {
	if err := checkStdin(targets); err != nil {
		return err
	}
	b.several = len(targets) > 1
	b.openAll(ctx, targets)
	if err := b.addMakers(ctx); err != nil {
		return err
	}
	b.targets = b.all
	var err error
	b.links, err = newLinks(b.all, b.session.LinkTags)
	return err
}

// openAll opens the inputs of targets concurrently, since some are fetched.
func (b *build) openAll(ctx context.Context, targets []Target) {
	var isTarget func(string) bool
	if b.several {
		isTarget = func(name string) bool {
			return slices.ContainsFunc(targets, func(t Target) bool { return t.Name == name }) ||
				slices.ContainsFunc(b.all, func(p *planned) bool { return p.Name == name })
		}
	}
	opened := make([]*planned, len(targets))
	var g sync.WaitGroup
	for i, t := range targets {
		g.Go(func() {
			p, err := b.session.open(ctx, t, isTarget)
			if err != nil {
				_ = t.Normalize() // its error is err
				p = &planned{Target: t, session: b.session, err: err}
			}
			p.bases.resolved = &b.resolved
			opened[i] = p
		})
	}
	g.Wait()
	b.all = append(b.all, opened...)
}

// addMakers opens the targets that make the base images of others, and the base images
// of these, if the session has them.
func (b *build) addMakers(ctx context.Context) error {
	s := b.session
	if s.MakersOf == nil {
		return nil
	}
	for asked := 0; asked < len(b.all); {
		refs := b.baseImages(b.all[asked:])
		asked = len(b.all)
		if len(refs) == 0 {
			return nil
		}
		more, err := s.MakersOf(refs)
		if err != nil {
			return err
		}
		if len(more.Targets) > 0 {
			s.CacheFrom, s.CacheTo, b.several = more.CacheFrom, more.CacheTo, true
			b.openAll(ctx, more.Targets)
		}
	}
	return nil
}

// baseImages returns the references of the images that targets are based on. It leaves
// out the tags of the target itself and, if tags are links, those of all targets.
func (b *build) baseImages(targets []*planned) (refs []string) {
	made := map[string]bool{}
	for _, p := range b.all {
		for _, tag := range p.Tags {
			made[tag] = b.session.LinkTags
		}
	}
	for _, p := range targets {
		if p.err != nil {
			continue
		}
		for _, platform := range p.platforms() {
			in := p.input()
			in.Platform = platform
			for _, ref := range plan.BaseImages(in) {
				if !made[ref] && !slices.Contains(p.Tags, ref) && !slices.Contains(refs, ref) {
					refs = append(refs, ref)
				}
			}
		}
	}
	return refs
}

// unplanned returns a [*FailedError] if there are targets that could not be planned.
func (b *build) unplanned() error {
	_, err := b.withUnplanned(make([]*Built, len(b.targets)), nil)
	return err
}

// withUnplanned adds the targets that could not be planned to the results of the
// others.
func (b *build) withUnplanned(built []*Built, err error) ([]*Built, error) {
	var failed *FailedError
	if len(b.targets) == len(b.all) || err != nil && !errors.As(err, &failed) {
		return built, err
	}
	failed = &FailedError{}
	all := make([]*Built, len(b.all))
	for i, p := range b.all {
		failure := p.err
		if failure != nil {
			all[i] = &Built{Name: p.Name, Err: failure}
		} else if all[i], built = built[0], built[1:]; all[i] != nil {
			failure = all[i].Err
		}
		if failure != nil {
			failed.Targets, failed.Errs = append(failed.Targets, p.Name), append(failed.Errs, failure)
		}
	}
	return all, failed
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
	for _, p := range b.all {
		if p.inputs != nil {
			p.close()
		}
	}
}

// TargetError is an error of one of several targets.
type TargetError struct {
	Target string
	Err    error
}

func (e *TargetError) Error() string { return fmt.Sprintf("target %s: %v", e.Target, e.Err) }

// Unwrap returns the error without the name of the target.
func (e *TargetError) Unwrap() error { return e.Err }

// ofTarget adds the name of a target to an error, if there are several targets.
func (b *build) ofTarget(p *planned, err error) error {
	if !b.several || p.Name == "" || err == nil {
		return err
	}
	return &TargetError{p.Name, err}
}
