package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/tarball"
)

// An overlay looks for a name in one lower directory after the other, and takes 500
// of them. So what has many layers is stacked of fewer trees: each run of runLength
// layers, counted from the bottom, is one tree of hard links once as many lie above it,
// if it has few files; and of more than mergeAbove trees the oldest are one, however
// many files they have. As runs begin at multiples, a tree that was merged serves all
// steps that come later.
const (
	runLength  = 32
	runEntries = 1000
	mergeAbove = 400
	mergeStep  = 4 * runLength
)

// piece is a tree of a chain, and how many layers it ends with.
type piece struct {
	dir string
	end int
}

// shorten merges trees of a chain, bottom first, if there are many.
func (w *Worker) shorten(ctx context.Context, chain []*Result, dirs []string) ([]string, error) {
	if len(dirs) <= 2*runLength {
		return dirs, nil
	}
	pieces := make([]piece, len(dirs))
	for i, dir := range dirs {
		pieces[i] = piece{dir, i + 1}
	}
	pieces, err := w.mergeRuns(ctx, chain, pieces)
	if err == nil {
		pieces, err = w.mergeOldest(ctx, chain, pieces)
	}
	return dirsOf(pieces), err
}

func dirsOf(pieces []piece) []string {
	dirs := make([]string, len(pieces))
	for i, p := range pieces {
		dirs[i] = p.dir
	}
	return dirs
}

// mergeRuns makes one tree of each run that is known to be small.
func (w *Worker) mergeRuns(ctx context.Context, chain []*Result, all []piece) (fewer []piece, err error) {
	for start := 0; start < len(all); start += runLength {
		end := start + runLength
		if end+runLength > len(all) {
			return append(fewer, all[start:]...), nil
		}
		dir, err := w.runs.do(chain[end-1], func() (string, error) {
			if small, err := w.small(ctx, chain[start:end]); !small {
				return "", err
			}
			return w.merge(ctx, chain[end-1], start, all[start:end], tarball.MergePart)
		})
		if err != nil && !errors.Is(err, errUnsettled) {
			return nil, err
		}
		if dir == "" {
			fewer = append(fewer, all[start:end]...)
		} else {
			fewer = append(fewer, piece{dir, end})
		}
	}
	return fewer, nil
}

// errUnsettled says of layers that they can't be merged yet.
var errUnsettled = errors.New("still being written")

// small says whether it costs little to merge some layers. Nobody waits for what is
// still being written: a later step may merge it.
func (w *Worker) small(ctx context.Context, results []*Result) (bool, error) {
	n := 0
	for _, r := range results {
		select {
		case <-r.layer.settled:
		default:
			return false, errUnsettled
		}
		x, err := r.layer.Names(ctx)
		if err != nil {
			return false, err
		}
		if n += len(x.Entries); n > runEntries {
			return false, nil
		}
	}
	return true, nil
}

// mergeOldest makes one tree of the oldest if there are more than an overlay takes.
func (w *Worker) mergeOldest(ctx context.Context, chain []*Result, all []piece) ([]piece, error) {
	n := 0
	for i, p := range all {
		if len(all)-n > mergeAbove && p.end%mergeStep == 0 {
			n = i + 1
		}
	}
	if n == 0 {
		return all, nil
	}
	end := all[n-1].end
	dir, err := w.merge(ctx, chain[end-1], 0, all[:n], tarball.Merge)
	return append([]piece{{dir, end}}, all[n:]...), err
}

// merge gives one tree for pieces that follow upon each other: the layers of a result but
// for the first so many. What is in the tree of a layer may depend on what is below, and
// so does the key.
func (w *Worker) merge(ctx context.Context, r *Result, start int, pieces []piece, how func(dir string, trees []string) error) (string, error) {
	ids, err := diffIDs(ctx, r)
	if err != nil {
		return "", err
	}
	key := fmt.Sprintf("merged %d %s", start, layer.ChainID(ids))
	return w.merged.do(key, func() (string, error) {
		if dir, ok := w.Store.Tree(key); ok {
			return dir, nil
		}
		t, err := w.Store.NewTree()
		if err != nil {
			return "", err
		}
		defer t.Close()
		if err := how(t.Dir, dirsOf(pieces)); err != nil {
			return "", err
		}
		return t.Dir, t.Commit(key)
	})
}
