package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/index"
)

// CacheTo is a place where a build leaves what it knows.
type CacheTo struct {
	remote.Where
	Inline bool // in the image itself; then there is no Where
	Max    bool // of every step, not of those of the image's layers alone
	Strict bool // a failure is one of the build, not a warning
}

// imports are the caches of --cache-from on their way.
type imports struct {
	done chan struct{}
	list []*remote.Cache
}

// startImports begins to read the caches, all at once: the build goes on, and
// waits for them only where the store has no answer.
func (j *job) startImports(ctx context.Context) {
	if len(j.opt.CacheFrom) == 0 || j.opt.NoCache {
		return
	}
	in := &imports{done: make(chan struct{})}
	j.imports = in
	var found []chan *remote.Cache
	for _, w := range j.opt.CacheFrom {
		for _, p := range j.platforms() { // a cache inside an image is that of one platform
			c := make(chan *remote.Cache, 1)
			found = append(found, c)
			go func() { c <- j.importCache(ctx, w, p) }()
		}
	}
	go func() {
		defer close(in.done)
		for _, c := range found {
			if c := <-c; c != nil {
				in.list = append(in.list, c)
			}
		}
	}()
}

// checkAnew warns of stages that are to be built anew and are not in the plan.
func (j *job) checkAnew() {
	for _, name := range j.opt.Anew {
		is := func(s plan.StageInfo) bool {
			return strings.EqualFold(s.Name, name) || s.Index >= 0 && strings.EqualFold(j.file.Stages[s.Index].As, name)
		}
		known := slices.ContainsFunc(j.images, func(img *image) bool { return slices.ContainsFunc(img.planned.Stages, is) })
		if !known {
			j.Progress.Warn("--no-cache-filter: no stage that is built is called %s", name)
		}
	}
}

// importCache reads one cache. That it can't be had costs time, and is no error.
func (j *job) importCache(ctx context.Context, w remote.Where, p layer.Platform) *remote.Cache {
	name := "importing cache from " + w.String()
	if len(j.platforms()) > 1 {
		name += " for " + p.String()
	}
	v := j.Progress.Vertex(name)
	v.Start()
	defer v.Done(nil)
	c, err := remote.Read(ctx, j.Registry, w, p)
	switch {
	case err == nil:
		v.Log(2, fmt.Appendf(nil, "%d results\n", c.Len()))
		return c
	case errors.Is(err, remote.ErrNone):
		v.Log(2, []byte("there is no cache yet\n"))
	case ctx.Err() == nil:
		v.Warn("%v: building without it", err)
	}
	return nil
}

// wait gives the caches once they are read.
func (in *imports) wait(ctx context.Context) []*remote.Cache {
	if in == nil {
		return nil
	}
	select {
	case <-in.done:
		return in.list
	case <-ctx.Done():
		return nil
	}
}

// exportCaches writes what is known now to the places of --cache-to.
func (j *job) exportCaches(ctx context.Context) error {
	for _, to := range j.opt.CacheTo {
		if to.Inline {
			continue
		}
		if err := j.exportTo(ctx, "cache", to, func() error { return j.exportCache(ctx, to) }); err != nil {
			return err
		}
	}
	return nil
}

// exportTo shows an export of what, whose failure is a warning unless the place
// is a strict one.
func (j *job) exportTo(ctx context.Context, what string, to CacheTo, export func() error) error {
	v := j.Progress.Vertex("exporting " + what + " to " + to.String())
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

func (j *job) exportCache(ctx context.Context, to CacheTo) error {
	unlock, err := j.Store.Lock(ctx, "cache "+to.String(), nil)
	if err != nil {
		return err
	}
	defer unlock()
	content, err := j.known(ctx, j.images, func(s *solve.Step) bool { return to.Max || j.ships(s) })
	if err != nil {
		return err
	}
	return remote.Write(ctx, j.Registry, to.Where, content)
}

// known collects what the build has for a cache of some images: of those of their
// steps that are wanted.
func (j *job) known(ctx context.Context, of []*image, want func(*solve.Step) bool) (remote.Content, error) {
	k := knowledge{job: j, seen: map[*solve.Step]bool{}, layers: map[layer.Digest]bool{}}
	k.Index = func(d layer.Digest) (*index.Index, error) {
		x, err := j.Store.Index(d)
		for _, c := range j.imports.wait(ctx) {
			if errors.Is(err, fs.ErrNotExist) && c.HasIndex(d) {
				x, err = c.Index(ctx, d)
			}
		}
		return x, err
	}
	for _, img := range of {
		if img.planned.Root == nil {
			continue
		}
		if err := k.add(ctx, img.planned.Root, want); err != nil {
			return k.Content, err
		}
	}
	return k.Content, nil
}

type knowledge struct {
	remote.Content
	job    *job
	seen   map[*solve.Step]bool
	layers map[layer.Digest]bool
}

// add collects from a step and all that it needs.
func (k *knowledge) add(ctx context.Context, s *solve.Step, want func(*solve.Step) bool) error {
	if k.seen[s] {
		return ctx.Err()
	}
	k.seen[s] = true
	for _, in := range s.In {
		if err := k.add(ctx, in.Step, want); err != nil {
			return err
		}
	}
	if !want(s) {
		return nil
	}
	op, err := plan.DecodeOp(s)
	if err != nil {
		return err
	}
	if img, ok := op.(plan.Image); ok {
		for _, d := range img.DiffIDs {
			k.layer(d)
		}
	}
	if worker.IsRoot(s) {
		return nil
	}
	key, err := k.job.solver.Key(s)
	if err != nil {
		return err
	}
	known, ok := k.job.worker.Known(ctx, s, key)
	if !ok {
		return nil
	}
	k.Steps = append(k.Steps, known)
	for _, b := range known.Record.Layers {
		k.layer(b.DiffID)
	}
	return nil
}

func (k *knowledge) layer(d layer.Digest) {
	if !k.layers[d] {
		k.layers[d] = true
		k.Layers = append(k.Layers, d)
	}
}

// inline puts the cache into the image's config, where that was asked for.
func (img *image) inline(ctx context.Context, config []byte, layers []layer.Blob) ([]byte, error) {
	wanted := inlineArg(img.opt.Args)
	for _, to := range img.opt.CacheTo {
		wanted = wanted || to.Inline
	}
	if !wanted {
		return config, nil
	}
	content, err := img.known(ctx, []*image{img}, func(s *solve.Step) bool { return img.chain[s] })
	if err != nil {
		return nil, err
	}
	if at := img.planned.Epoch; at != nil {
		for i := range content.Steps {
			content.Steps[i].Record.Created = *at * 1e9
		}
	}
	return remote.Inline(config, layers, content)
}

// inlineArg is BuildKit's older way to ask for an inline cache.
func inlineArg(args map[string]string) bool {
	on, err := strconv.ParseBool(args["BUILDKIT_INLINE_CACHE"])
	return err == nil && on
}
