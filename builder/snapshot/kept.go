package snapshot

import (
	"context"
	"fmt"

	"github.com/cairn-build/cairn/layer/diff"
)

// pristine is the state to which a plain tree can be restored: that of the layers of an
// image, on which commands of other stages and of later builds run too.
type pristine struct {
	image  *Stack       // nil if the tree has no such state
	before *diff.Record // of that state
	dirs   []string     // the trees of the image's layers, topmost first
}

// keptTrees is the number of plain trees of an image that the store keeps for later
// builds: stages that run at the same time need one each.
const keptTrees = 2

// image returns the part of the stack that consists of layers of an image.
func (s *Stack) image() *Stack {
	top := s
	for t := s; t.layer != nil; t = t.below {
		if !t.layer.isImage {
			top = t.below
		}
	}
	return top
}

// imageTree returns a plain tree of an image: one that an earlier build has kept, or a
// new one. For the empty stack it is empty.
func (s *Stack) imageTree(ctx context.Context) (*plainTree, error) {
	if s.layer == nil {
		return s.m.newPlainTree()
	}
	dirs, err := s.Trees(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.keptTree(ctx)
	if err != nil {
		return nil, err
	}
	if p == nil {
		if p, err = s.m.newPlainTree(); err != nil {
			return nil, err
		}
		if err := s.lay(ctx, p, dirs); err != nil {
			err = s.m.Store.ExplainFull(err)
			p.drop()
			return nil, err
		}
	}
	p.pristine = pristine{s, p.record, dirs}
	return p, nil
}

// keptTree takes a plain tree of an image that an earlier build has kept. It returns nil
// if there is none that is unchanged since.
func (s *Stack) keptTree(ctx context.Context) (*plainTree, error) {
	keys, err := s.keptKeys(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		t, ok := s.m.Store.Take(key)
		if !ok {
			continue
		}
		p := &plainTree{tree: t}
		want, err := s.m.Store.Hint(key)
		if err == nil {
			p.record, err = diff.Look(ctx, t.Dir)
		}
		if err == nil && p.record.Digest() == string(want) {
			return p, nil
		}
		p.drop()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, nil
}

// keptKeys returns the keys of the kept trees of an image. A process that may give files
// to any owner has others than one that may not.
func (s *Stack) keptKeys(ctx context.Context) ([]string, error) {
	id, err := s.ChainID(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]string, keptTrees)
	for i := range keys {
		keys[i] = fmt.Sprintf("plain %d %s single=%t %s", i, s.m.Isolation.Mode, s.m.Isolation.SingleID, id)
	}
	return keys, nil
}

// keep restores a plain tree and stores it for later builds. If that is not possible, it
// removes the tree.
func (m *Manager) keep(p *plainTree) {
	if p == nil {
		return
	}
	if p.image == nil || m.ctx.Err() != nil || m.restore(p) != nil {
		p.drop()
	}
}

func (m *Manager) restore(p *plainTree) (err error) {
	now := p.record
	if now == nil {
		if now, err = diff.Look(m.ctx, p.tree.Dir); err != nil {
			return err
		}
	}
	if now != p.before {
		if err := diff.Restore(m.ctx, p.tree.Dir, p.before, now, p.dirs); err != nil {
			return err
		}
	}
	keys, err := p.image.keptKeys(m.ctx)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, ok := m.Store.Tree(key); ok {
			continue
		}
		if err := m.Store.PutHint(key, []byte(p.before.Digest())); err != nil {
			return err
		}
		return p.tree.Commit(key)
	}
	p.drop() // there are enough
	return nil
}

// keepAll keeps the plain trees that are free.
func (m *Manager) keepAll() {
	for _, p := range m.plain.takeAll() {
		m.keep(p)
	}
}
