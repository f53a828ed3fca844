package worker

import (
	"context"
	"fmt"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer/index"
)

// workdir makes the layer of a WORKDIR: the directories that are missing, owned
// by the current user; none when it is there.
func (w *Worker) workdir(ctx context.Context, j solve.Job[*Result], op plan.Workdir) (*work, error) {
	view, err := w.View(ctx, j.In[0])
	if err != nil {
		return nil, err
	}
	like := index.Entry{Mode: 0o755, MTime: w.Now.Unix()}
	if op.User != "" {
		if like.UID, like.GID, err = owner(view, op.User, w.vertex(j.Step).Warn); err != nil {
			return nil, fmt.Errorf("the owner of %s: %w", op.Path, err)
		}
	}
	d := newDest(view, op.Epoch)
	at, err := d.resolve(op.Path, true)
	if err != nil {
		return nil, err
	}
	if err := d.mkdirs(at, like); err != nil {
		return nil, err
	}
	return &work{changes: d.changes()}, nil
}
