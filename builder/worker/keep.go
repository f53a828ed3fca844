package worker

import (
	"context"
	"fmt"
	"slices"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
)

// Keep stores the changes of a failed RUN as a layer, and returns it with those below it,
// bottom first. The root can't be used afterwards.
func (h *Halt) Keep(ctx context.Context) (layers []layer.Descriptor, err error) {
	changes, err := h.Root.Changes(ctx, h.Result, nil)
	if err != nil {
		return nil, err
	}
	h.kept = true
	stack := h.stack.Add(snapshot.NewLayer{Changes: changes, Root: h.Root, Lane: h.Place.Text})
	for _, l := range stack.Layers() {
		b, err := l.Blob(ctx)
		if err != nil {
			return nil, err
		}
		layers = append(layers, b)
	}
	return layers, stack.SaveOrigins(ctx)
}

// Enter calls f with the tree of a stack, in which commands can be run as the RUN o. Secrets
// and agents that are not given are left out, and so are bind mounts.
func (w *Worker) Enter(ctx context.Context, stack *snapshot.Stack, o op.Run, f func(*Halt) error) error {
	if err := w.Isolation.CheckRun(); err != nil {
		return err
	}
	o = withoutInputs(o)
	step := op.NewStep(o)
	if _, err := stack.Trees(ctx); err != nil {
		return err
	}
	mounts, err := w.commands.mounts(ctx, solve.Job[*Result]{Step: step, In: []*Result{{stack: stack}}}, o)
	if err != nil {
		return err
	}
	defer mounts.close()
	root, err := stack.NewRoot(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	spec, err := w.commands.spec(ctx, step, o, mounts)
	if err != nil {
		return err
	}
	if err := root.Attach(&spec); err != nil {
		return err
	}
	return f(&Halt{Step: step, Run: o, Spec: spec, Root: root, stack: stack, Missing: mounts.missing})
}

// withoutInputs returns a RUN without the mounts that need another input, and without
// required ones.
func withoutInputs(o op.Run) op.Run {
	mounts, caches := o.Mounts, o.Extra.Caches
	o.Mounts, o.Extra.Caches, o.Extra.Origins = nil, nil, nil
	for i, m := range mounts {
		if m.Input > 0 {
			continue
		}
		m.Required = false
		for _, use := range caches {
			if use.Mount == i {
				use.Mount = len(o.Mounts)
				o.Extra.Caches = append(o.Extra.Caches, use)
			}
		}
		if m.Type == "cache" && !slices.ContainsFunc(caches, func(use op.CacheUse) bool { return use.Mount == i }) {
			continue
		}
		o.Mounts = append(o.Mounts, m)
	}
	return o
}

// Inputs describes the mounts of a RUN that Enter leaves out.
func Inputs(o op.Run) (all []string) {
	for _, m := range o.Mounts {
		if m.Input > 0 {
			all = append(all, fmt.Sprintf("%s %s", m.Type, m.Target))
		}
	}
	return all
}
