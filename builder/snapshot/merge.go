package snapshot

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/tree"
)

// An overlay looks up a name in one lower directory after the other, and takes at most
// 500 of them. A tall stack is therefore mounted from merged trees. Each run of runLength
// layers, counted from the bottom, is one tree of hard links, once there are runLength
// layers above it and if it has few files. If there are still more than mergeAbove
// trees, the oldest are merged whatever their size. Runs begin at multiples of runLength,
// so that a merged tree serves all later steps.
const (
	runLength  = 32
	runEntries = 1000
	mergeAbove = 400
	mergeStep  = 4 * runLength
)

// piece is the tree of some consecutive layers.
type piece struct {
	dir string
	end int // the number of layers up to the last of them
}

// shorten merges trees of a chain, bottom first, if there are many.
func (m *Manager) shorten(ctx context.Context, chain []*Stack, dirs []string) ([]string, error) {
	if len(dirs) <= 2*runLength {
		return dirs, nil
	}
	pieces := make([]piece, len(dirs))
	for i, dir := range dirs {
		pieces[i] = piece{dir, i + 1}
	}
	pieces, err := m.mergeRuns(ctx, chain, pieces)
	if err == nil {
		pieces, err = m.mergeOldest(ctx, chain, pieces)
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

// mergeRuns merges each run that is known to be small.
func (m *Manager) mergeRuns(ctx context.Context, chain []*Stack, all []piece) (fewer []piece, err error) {
	for start := 0; start < len(all); start += runLength {
		end := start + runLength
		if end+runLength > len(all) {
			return append(fewer, all[start:]...), nil
		}
		dir, err := chain[end-1].run.Do(ctx, func() (string, error) {
			if small, err := isSmall(ctx, chain[start:end]); !small {
				return "", err
			}
			return m.mergeTrees(ctx, chain[end-1], start, all[start:end], tree.MergePart)
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

// errUnsettled reports that layers cannot be merged yet.
var errUnsettled = errors.New("still being written")

// isSmall reports whether the top layers of the stacks have few files. It does not wait
// for layers that are still being written: a later step can merge those.
func isSmall(ctx context.Context, stacks []*Stack) (bool, error) {
	n := 0
	for _, s := range stacks {
		if !s.layer.isSettled() {
			return false, errUnsettled
		}
		x, err := s.layer.EarlyListing(ctx)
		if err != nil {
			return false, err
		}
		if n += len(x.Entries); n > runEntries {
			return false, nil
		}
	}
	return true, nil
}

// mergeOldest merges the oldest trees if there are more than an overlay takes.
func (m *Manager) mergeOldest(ctx context.Context, chain []*Stack, all []piece) ([]piece, error) {
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
	dir, err := m.mergeTrees(ctx, chain[end-1], 0, all[:n], tree.Merge)
	return append([]piece{{dir, end}}, all[n:]...), err
}

// mergeTrees returns one tree for consecutive pieces: the layers of s without the first
// start. A layer's tree may depend on the layers below, so the key has all of them, and
// the times at which steps made them.
func (m *Manager) mergeTrees(ctx context.Context, s *Stack, start int, pieces []piece, how func(dir string, trees []string) error) (string, error) {
	ids, err := s.diffIDs(ctx)
	if err != nil {
		return "", err
	}
	for _, l := range s.Layers() {
		if !l.created.IsZero() {
			ids = append(ids, layer.FromBytes(strconv.AppendInt(nil, l.created.UnixNano(), 10)))
		}
	}
	key := fmt.Sprintf("merged %d %s", start, layer.ChainID(ids))
	return m.merged.Do(ctx, key, func() (string, error) {
		if dir, ok := m.Store.Tree(key); ok {
			return dir, nil
		}
		t, err := m.Store.NewTree()
		if err != nil {
			return "", err
		}
		defer t.Close()
		if err := how(t.Dir, dirsOf(pieces)); err != nil {
			return "", m.Store.ExplainFull(err)
		}
		return t.Dir, t.Commit(key)
	})
}
