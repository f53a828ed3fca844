package builder

import (
	"context"
	"slices"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

// Verify checks all that is in the store, and with repair drops what is wrong.
func (b *Builder) Verify(ctx context.Context, repair bool) (store.CheckReport, error) {
	v := b.Progress.Vertex("checking " + b.Store.Root())
	v.Start()
	r, err := b.Store.Check(ctx, store.CheckOptions{
		Repair: repair, Record: cache.Verify, LayerKey: worker.TreeKey, Progress: v.Status,
		Unsound: func(diffID layer.Digest, images [][]layer.Digest) (int, error) {
			return b.dropOn(ctx, diffID, images)
		},
	})
	v.Done(err)
	return r, err
}

// dropOn drops the results of steps that may have read a layer's tree. Records name no
// base: the images that are known tell which cannot have the layer.
func (b *Builder) dropOn(ctx context.Context, diffID layer.Digest, images [][]layer.Digest) (int, error) {
	s := solve.New(ctx, b.worker(ctx))
	sound := map[string]bool{}
	for _, ids := range append(slices.Clip(images), nil) { // and the empty tree
		if slices.Contains(ids, diffID) {
			continue
		}
		key, err := s.Key(plan.Base(ids))
		if err != nil {
			return 0, err
		}
		sound[string(key)] = true
	}
	return cache.New(b.Store).DropOn(diffID, sound)
}
