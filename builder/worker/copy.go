package worker

import (
	"context"
	"errors"
	"sync"

	"github.com/cairn-build/cairn/builder/filecopy"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/once"
)

// copyFiles carries out a COPY, ADD or inline file.
func (w *Worker) copyFiles(ctx context.Context, j solve.Job[*Result], o op.Copy) (made, error) {
	below := j.In[0].stack
	view, err := below.View(ctx)
	if err != nil {
		return made{}, err
	}
	c := &filecopy.Copier{
		Op: o, Below: filecopy.Tree{View: view, Open: below.Open, Time: below.Time, Digest: digestIn(ctx, below)}, Now: w.Now, Warn: w.display.vertex(j.Step).Warn,
		TempDir: w.Store.TempDir, Archives: w.Limits.Archive(),
		Select: func(ctx context.Context, input int) (*filecopy.Selected, func(), error) {
			in, sel := j.In[input], j.Step.In[input].Sel
			s, err := w.selections.files(ctx, in, sel)
			return s, func() { w.selections.release(in, sel, s) }, err
		},
	}
	changes, err := c.Copy(ctx)
	if err != nil {
		return made{}, err
	}
	return made{changes: changes, reduced: changes.Reduced()}, nil
}

// digestIn returns a function that returns the digest of a file in a stack. It waits for
// layers that are still being written.
func digestIn(ctx context.Context, s *snapshot.Stack) func(listing.Node) (layer.Digest, error) {
	return func(n listing.Node) (layer.Digest, error) {
		view, err := s.FullView(ctx)
		if err != nil {
			return "", err
		}
		n, _ = view.Lookup(n.Path)
		return n.Digest, nil
	}
}

// workdir carries out a WORKDIR.
func (w *Worker) workdir(ctx context.Context, j solve.Job[*Result], o op.Workdir) (made, error) {
	below := j.In[0].stack
	view, err := below.View(ctx)
	if err != nil {
		return made{}, err
	}
	changes, err := filecopy.Workdir(filecopy.Tree{View: view, Open: below.Open, Time: below.Time}, o, w.Now, w.display.vertex(j.Step).Warn)
	if err != nil {
		return made{}, err
	}
	return made{changes: changes}, nil
}

// selections keeps the files that steps select from results.
type selections struct {
	selected once.Map[selectionKey, *filecopy.Selected]
	digests  sync.Map // selectionKey -> string; kept when the files are released
}

// selectionKey is a selection of a result.
type selectionKey struct {
	r   *Result
	sel string
}

// files returns the files that a selection matches in a result. They are searched once.
func (s *selections) files(ctx context.Context, r *Result, sel string) (*filecopy.Selected, error) {
	key := selectionKey{r, sel}
	return s.selected.Do(ctx, key, func() (*filecopy.Selected, error) {
		decoded, err := op.DecodeSelection(sel)
		if err != nil {
			return nil, err
		}
		src, err := r.source(ctx)
		if err != nil {
			return nil, err
		}
		files, err := filecopy.Select(ctx, src, decoded)
		if err != nil {
			return nil, err
		}
		if was, again := s.digests.LoadOrStore(key, files.Digest); again && was != files.Digest {
			return nil, errors.New("the files to copy changed during the build")
		}
		return files, nil
	})
}

// release drops the files of a large selection. They are searched again when another step
// needs them.
func (s *selections) release(r *Result, sel string, files *filecopy.Selected) {
	if files != nil && files.IsLarge() {
		s.selected.Forget(selectionKey{r, sel})
	}
}

// source returns the result as the source of a copy.
func (r *Result) source(ctx context.Context) (filecopy.Source, error) {
	if r.dir != nil {
		return filecopy.FromContext(r.dir), nil
	}
	if r.file != nil {
		return filecopy.FromFile(*r.file), nil
	}
	v, err := r.stack.FullView(ctx)
	if err != nil {
		return nil, err
	}
	return filecopy.FromTree(filecopy.Tree{View: v, Open: r.stack.Open, Time: r.stack.Time}), nil
}

// Observe implements [solve.Runner]: it returns the digest of a selection, or "" if that
// would fetch a layer of an image.
func (w *Worker) Observe(ctx context.Context, r *Result, sel string) (string, error) {
	if sel == "" || r.dir == nil && r.stack.NeedsFetch() {
		return "", nil
	}
	if digest, ok := w.selections.digests.Load(selectionKey{r, sel}); ok {
		return digest.(string), nil
	}
	s, err := w.selections.files(ctx, r, sel)
	if err != nil {
		return "", err
	}
	return s.Digest, nil
}
