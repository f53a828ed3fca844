// Package storecheck checks everything in a store: blobs, listings, unpacked layers and
// the records of steps.
package storecheck

import (
	"context"
	"slices"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

// Check checks everything in s. With repair it removes the damaged parts and the
// results of steps that may have used them.
func Check(ctx context.Context, s *store.Store, p *progress.Reporter, repair bool) (store.CheckReport, error) {
	v := p.Vertex("checking " + s.Root())
	v.Start()
	r, err := s.Check(ctx, store.CheckOptions{
		Repair: repair, Record: cache.Verify, LayerKey: snapshot.TreeKey, Progress: show(v),
		Unsound: func(diffID layer.Digest, images [][]layer.Digest) (int, error) {
			return dropDependent(ctx, cache.New(s), diffID, images)
		},
	})
	v.Done(err)
	return r, err
}

// show returns a function that displays what has been read, and marks a complete part.
func show(v *progress.Vertex) func(what string, done, total int64) {
	return func(what string, done, total int64) {
		v.Status(what, done, total)
		if done == total {
			v.StatusDone(what)
		}
	}
}

// dropDependent drops the results of steps that may have read a damaged layer. A record
// has the key of its base, not the layers, so the records of all images without the
// layer are kept.
func dropDependent(ctx context.Context, c *cache.Cache, diffID layer.Digest, images [][]layer.Digest) (int, error) {
	keys := solve.New(ctx, pinned{})
	sound := map[string]bool{}
	for _, ids := range append(slices.Clip(images), nil) { // nil is the empty tree
		if slices.Contains(ids, diffID) {
			continue
		}
		key, err := keys.Key(op.FromLayers(ids))
		if err != nil {
			return 0, err
		}
		sound[string(key)] = true
	}
	return c.DropOn(diffID, sound)
}

// pinned is a runner with which a solver computes the keys of images.
type pinned struct{ solve.Runner[struct{}] }

// Pin returns the same pin as the worker: the step names the layers of the image.
func (pinned) Pin(context.Context, *solve.Step) (string, error) { return worker.OpPin, nil }
