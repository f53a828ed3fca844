package worker

import (
	"context"
	"iter"

	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Flatten gives a result's whole tree as the changes of one layer.
func (w *Worker) Flatten(ctx context.Context, r *Result) (iter.Seq2[tarball.Change, error], error) {
	view, err := w.FullView(ctx, r)
	if err != nil {
		return nil, err
	}
	o := treeOrigin{w.ctx, r, view}
	list, err := o.Scan(ctx, ".", source.WalkOptions{})
	if err != nil {
		return nil, err
	}
	return func(yield func(tarball.Change, error) bool) {
		links := map[any]string{}
		for _, f := range list.all() {
			c := tarball.Change{Entry: f.Entry, Open: f.open}
			c.Content = nil
			if f.Type == index.TypeFile {
				if first, ok := links[f.group]; ok {
					c.Type, c.Link, c.Size, c.Digest, c.Open = index.TypeHardlink, first, 0, "", nil
				} else {
					links[f.group] = f.Path
				}
			}
			if !yield(c, nil) {
				return
			}
		}
	}, nil
}
