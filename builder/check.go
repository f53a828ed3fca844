package builder

import (
	"context"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer/store"
)

// Verify checks all that is in the store, and with repair drops what is wrong.
func (b *Builder) Verify(ctx context.Context, repair bool) (store.CheckReport, error) {
	v := b.Progress.Vertex("checking " + b.Store.Root())
	v.Start()
	r, err := b.Store.Check(ctx, store.CheckOptions{
		Repair: repair, Record: cache.Verify, LayerKey: worker.TreeKey, Progress: v.Status,
	})
	v.Done(err)
	return r, err
}
