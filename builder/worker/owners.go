package worker

import (
	"context"
	"os"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer/diff"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

// owners says how trees are made here. Where files cannot be given to others they
// belong to the one id there is, and only indexes and layers tell whose they are.
func (w *Worker) owners(o tarball.ApplyOptions) tarball.ApplyOptions {
	o.NoChown = w.Isolation.OneID
	o.Readable = w.Isolation.Rung == sandbox.None
	return o
}

// give makes a file of the builder's own somebody's, where files can be given.
func (w *Worker) give(path string, o *plan.Owner) error {
	if w.Isolation.OneID {
		return nil
	}
	return os.Lchown(path, int(o.UID), int(o.GID))
}

// recorded lets a diff take owners from what the layers below say, where trees do not
// tell.
func (w *Worker) recorded(ctx context.Context, below *Result, o diff.Options) (diff.Options, error) {
	if !w.Isolation.OneID {
		return o, nil
	}
	view, err := w.View(ctx, below)
	if err != nil {
		return o, err
	}
	o.Owner = func(path string, t index.Type) (uid, gid int, ok bool) {
		n, ok := view.Lookup(path)
		if n.Type == index.TypeHardlink {
			n.Type = index.TypeFile
		}
		return n.UID, n.GID, ok && n.Type == t
	}
	return o, nil
}
