package worker

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// KeptInput is a stage, image or context that a RUN has mounted.
type KeptInput struct {
	Input int    // of the mounts
	Path  string // that a mount of a context has in the tree, "" for other trees
	// Layers are those of the tree, bottom first.
	Layers []layer.Descriptor
}

// Keep stores the changes of a failed RUN as a layer, and returns it with those below it,
// bottom first, and the inputs of its bind mounts. The root can't be used afterwards.
func (h *Halt) Keep(ctx context.Context) (layers []layer.Descriptor, inputs []KeptInput, err error) {
	if inputs, err = h.inputs(ctx); err != nil {
		return nil, nil, err
	}
	changes, err := h.Root.Changes(ctx, h.Result, nil)
	if err != nil {
		return nil, nil, err
	}
	h.kept = true
	layers, err = keepStack(ctx, h.stack.Add(snapshot.NewLayer{Changes: changes, Root: h.Root, Lane: h.Place.Text}))
	return layers, inputs, err
}

// keepStack stores the layers of a stack and returns them, bottom first.
func keepStack(ctx context.Context, stack *snapshot.Stack) (layers []layer.Descriptor, err error) {
	for _, l := range stack.Layers() {
		b, err := l.Blob(ctx)
		if err != nil {
			return nil, err
		}
		layers = append(layers, b)
	}
	return layers, stack.SaveOrigins(ctx)
}

// keepInputs stores the trees that the bind mounts of a RUN are parts of.
func (c *commands) keepInputs(ctx context.Context, j solve.Job[*Result], o op.Run) (all []KeptInput, err error) {
	for _, m := range o.Mounts {
		if m.Type != "bind" || slices.ContainsFunc(all, func(k KeptInput) bool { return k.Input == m.Input }) {
			continue
		}
		kept := KeptInput{Input: m.Input}
		stack := j.In[m.Input].stack
		if j.In[m.Input].dir != nil {
			if stack, kept.Path, err = c.contextStack(ctx, j.In[m.Input], j.Step.In[m.Input].Sel); err != nil {
				return nil, err
			}
		}
		if kept.Layers, err = keepStack(ctx, stack); err != nil {
			return nil, err
		}
		all = append(all, kept)
	}
	return all, nil
}

// contextStack returns a stack with the files that a mount selects in a context, and their
// path in it.
func (c *commands) contextStack(ctx context.Context, r *Result, sel string) (*snapshot.Stack, string, error) {
	s, err := c.selections.files(ctx, r, sel)
	if err != nil {
		return nil, "", err
	}
	top, name := s.First(), "file"
	if top.Root().Type == listing.TypeDir {
		name = "."
	}
	var changes snapshot.DiffChanges
	for change, err := range top.Changes(name) {
		if err != nil {
			return nil, "", err
		}
		changes = append(changes, change)
	}
	slices.SortFunc(changes, func(a, b tarball.Change) int { return listing.Compare(a.Entry, b.Entry) })
	return c.layers.Empty().Add(snapshot.NewLayer{Changes: changes}), path.Join("/", name), nil
}

// Enter calls f with the tree of a stack, in which commands can be run as the RUN o. Secrets
// and agents that are not given are left out, and so are mounts of inputs that were not
// kept.
func (w *Worker) Enter(ctx context.Context, stack *snapshot.Stack, o op.Run, inputs []KeptInput, f func(*Halt) error) error {
	if err := w.Isolation.CheckRun(); err != nil {
		return err
	}
	in := []*Result{{stack: stack}}
	for _, k := range inputs {
		in = append(in, &Result{stack: w.Layers().StoredImage(layer.Image{Layers: k.Layers}, "")})
	}
	o = withKept(o, inputs)
	step := op.NewStep(o)
	if _, err := stack.Trees(ctx); err != nil {
		return err
	}
	mounts, err := w.commands.mounts(ctx, solve.Job[*Result]{Step: step, In: in}, o)
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

// withKept returns a RUN whose bind mounts are of kept inputs, without other mounts that
// need an input and without required ones.
func withKept(o op.Run, inputs []KeptInput) op.Run {
	mounts, caches := o.Mounts, o.Extra.Caches
	o.Mounts, o.Extra.Caches, o.Extra.Origins = nil, nil, nil
	for i, m := range mounts {
		if m.Input > 0 {
			at := keptAt(m, inputs)
			if at < 0 {
				continue
			}
			m.Input = at + 1
			m.Source = cmp.Or(inputs[at].Path, m.Source)
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

// keptAt returns the index of the kept input of a mount, -1 if there is none.
func keptAt(m op.Mount, inputs []KeptInput) int {
	if m.Type != "bind" {
		return -1
	}
	return slices.IndexFunc(inputs, func(k KeptInput) bool { return k.Input == m.Input })
}

// Left describes the mounts of a RUN that Enter leaves out.
func Left(o op.Run, inputs []KeptInput) (all []string) {
	for _, m := range o.Mounts {
		if m.Input > 0 && keptAt(m, inputs) < 0 {
			all = append(all, fmt.Sprintf("%s %s", m.Type, m.Target))
		}
	}
	return all
}
