package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
)

// exportCaches writes the results of the steps to the destinations of --cache-to.
func (a *attempt) exportCaches(ctx context.Context) error {
	for _, to := range a.session.CacheTo {
		if to.Inline || !slices.ContainsFunc(a.targets, to.isOf) {
			continue
		}
		err := a.session.exportTo(ctx, "cache", to, func() error {
			unlock, err := a.session.Store.Lock(ctx, "cache "+to.String(), nil)
			if err != nil {
				return err
			}
			defer unlock()
			content, err := a.cacheContent(ctx, to)
			if err != nil {
				return err
			}
			return remote.Write(ctx, a.session.Registry, to.Location, content)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// exportCacheMounts writes the content of the cache mounts to the destinations of
// --cache-mount-to. If no RUN of the build had one, it leaves the destinations alone.
func (a *attempt) exportCacheMounts(ctx context.Context) error {
	if len(a.session.CacheMountTo) == 0 {
		return nil
	}
	mounts, packErr := a.worker.PackCacheMounts(ctx)
	if len(mounts) == 0 && packErr == nil {
		return nil
	}
	for _, to := range a.session.CacheMountTo {
		err := a.session.exportTo(ctx, "cache mounts", to, func() error {
			if packErr != nil {
				return packErr
			}
			unlock, err := a.session.Store.Lock(ctx, "cache mounts "+to.String(), nil)
			if err != nil {
				return err
			}
			defer unlock()
			return remote.WriteCacheMounts(ctx, a.session.Registry, to.Location, mounts)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// exportTo shows an export. If it fails, exportTo warns, unless the destination is
// strict.
func (s *Session) exportTo(ctx context.Context, content string, to CacheTo, export func() error) error {
	v := s.Progress.Vertex("exporting " + content + " to " + to.String())
	v.Start()
	err := export()
	if err != nil && !to.Strict && ctx.Err() == nil {
		v.Warn("%v", err)
		err = nil
	}
	v.Done(err)
	if err != nil {
		return fmt.Errorf("exporting %w", err)
	}
	return nil
}

// cacheContent collects the results of the steps of a cache's targets: of all or, unless
// Max is set, of those whose layers are in images.
func (a *attempt) cacheContent(ctx context.Context, to CacheTo) (remote.Content, error) {
	c := a.newCollector(ctx)
	for i, p := range a.targets {
		if !to.isOf(p) || a.failed(i) != nil {
			continue
		}
		for _, made := range p.plans {
			if err := c.add(ctx, made.Root, func(s *solve.Step) bool { return to.Max || p.exported[s] }); err != nil {
				return c.Content, err
			}
		}
	}
	return c.Content, nil
}

// wantsInlineCache reports whether the images of a target include a cache.
func (s *Session) wantsInlineCache(p *planned) bool {
	return p.wantsInlineCache() || slices.ContainsFunc(s.CacheTo, func(to CacheTo) bool { return to.Inline && to.isOf(p) })
}

// addInlineCache adds the cache of an image's steps to its config.
func (a *attempt) addInlineCache(ctx context.Context, made *plan.Plan, config []byte, layers []layer.Descriptor) ([]byte, error) {
	exported := map[*solve.Step]bool{}
	addExported(made.Root, exported)
	c := a.newCollector(ctx)
	if err := c.add(ctx, made.Root, func(s *solve.Step) bool { return exported[s] }); err != nil {
		return nil, err
	}
	if at := made.Epoch; at != nil {
		for i := range c.Steps {
			c.Steps[i].Record.Created = *at * 1e9
		}
	}
	return remote.Inline(config, layers, c.Content)
}

// collector collects the content of a cache from the steps of a build.
type collector struct {
	remote.Content
	solver *solve.Solver[*worker.Result]
	worker *worker.Worker
	seen   map[*solve.Step]bool
	added  map[layer.Digest]bool
}

func (a *attempt) newCollector(ctx context.Context) *collector {
	c := &collector{solver: a.solver, worker: a.worker, seen: map[*solve.Step]bool{}, added: map[layer.Digest]bool{}}
	c.Index = func(d layer.Digest) (*listing.Listing, error) {
		x, err := a.session.Store.Listing(d)
		for _, from := range a.caches.wait(ctx) {
			if errors.Is(err, fs.ErrNotExist) && from.HasIndex(d) {
				x, err = from.Index(ctx, d)
			}
		}
		return x, err
	}
	return c
}

// add adds the results of a step and of the steps below it that are wanted.
func (c *collector) add(ctx context.Context, s *solve.Step, wanted func(*solve.Step) bool) error {
	if s == nil {
		return nil
	}
	if c.seen[s] {
		return ctx.Err()
	}
	c.seen[s] = true
	for _, in := range s.In {
		if err := c.add(ctx, in.Step, wanted); err != nil {
			return err
		}
	}
	if !wanted(s) {
		return nil
	}
	o, err := op.Decode(s)
	if err != nil {
		return err
	}
	if img, ok := o.(op.Image); ok {
		for _, d := range img.DiffIDs {
			c.addLayer(d)
		}
	}
	if worker.IsRoot(s) {
		return nil
	}
	key, err := c.solver.Key(s)
	if err != nil {
		return err
	}
	known, ok := c.worker.Known(ctx, s, key)
	if !ok {
		return nil
	}
	c.Steps = append(c.Steps, known)
	for _, b := range known.Record.Layers {
		c.addLayer(b.DiffID)
	}
	return nil
}

func (c *collector) addLayer(d layer.Digest) {
	if !c.added[d] {
		c.added[d] = true
		c.Layers = append(c.Layers, d)
	}
}
