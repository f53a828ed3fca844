package snapshot

import (
	"context"
	"iter"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer/diff"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Root is a writable root of a stack's tree for one command: the directories of an
// overlay mount, a plain tree, or layers for a kernel of its own. It belongs to the caller until [Stack.Add] gets it.
type Root struct {
	stack  *Stack
	lowers []string    // the trees of the stack, topmost first
	upper  *store.Tree // receives the changes, also those found in a plain tree
	plain  *plainTree  // nil for an overlay
	guest  *guestRoot  // nil except in the isolation mode gvisor
	exact  bool        // upper has no other paths than the layer; known after Changes
}

// NewRoot makes a root of the stack. The caller closes it, or passes it to [Stack.Add].
func (s *Stack) NewRoot(ctx context.Context) (*Root, error) {
	if s.m.Isolation.Mode == sandbox.Gvisor {
		return s.newGuestRoot(ctx)
	}
	lowers, err := s.Trees(ctx)
	if err != nil {
		return nil, err
	}
	upper, err := s.NewUpper(ctx)
	if err != nil {
		return nil, err
	}
	r := &Root{stack: s, lowers: lowers, upper: upper}
	kind, err := s.m.snapshotKind(ctx)
	if err == nil && kind == sandbox.Plain {
		r.plain, err = s.plainTree(ctx)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Close removes the root and the changes in it.
func (r *Root) Close() {
	r.upper.Close()
	if r.plain != nil {
		r.plain.record = nil
		r.stack.m.keep(r.plain)
	}
}

// Attach makes spec run in the root. With a plain tree, it also replaces the overlay
// mounts of spec by copies.
func (r *Root) Attach(spec *sandbox.Spec) error {
	if r.guest != nil {
		return r.attachGuest(spec)
	}
	spec.Lowers, spec.Upper, spec.Work = r.lowers, r.upper.Dir, r.upper.Work
	if r.plain == nil {
		return nil
	}
	spec.Root, spec.Chroot = r.plain.tree.Dir, r.stack.m.Isolation.Mode == sandbox.Chroot
	for i := range spec.Mounts {
		if err := r.stack.m.copyMount(&spec.Mounts[i]); err != nil {
			return err
		}
	}
	return nil
}

// Changes finds the changes that a command with the given result made in the root. No time
// in the changes is later than the epoch, if there is one; the files keep theirs for the
// next command.
func (r *Root) Changes(ctx context.Context, res sandbox.Result, epoch *int64) (Changes, error) {
	root, err := r.stack.rootEntry(ctx)
	if err != nil {
		return nil, err
	}
	view, err := r.stack.View(ctx)
	if err != nil {
		return nil, err
	}
	o := diff.Options{Epoch: epoch, Root: &root, Touched: res.Touched, Time: func(path string) (int64, bool) {
		n, ok := view.Lookup(path)
		return n.MTime, ok
	}}
	if r.guest != nil {
		return r.guestChanges(ctx, res.Changes, view, o)
	}
	var found diff.Result
	if r.stack.m.Isolation.SingleID {
		if o.Owner, err = r.stack.owners(ctx); err != nil {
			return nil, err
		}
	}
	if r.plain == nil {
		found, err = diff.Overlay(ctx, r.upper.Dir, r.lowers, o)
	} else {
		found, r.plain.record, err = diff.Plain(ctx, r.plain.tree.Dir, r.plain.record, r.upper.Dir, r.lowers, o)
	}
	r.exact = found.Exact
	return DiffChanges(found.Changes), err
}

// owners returns a function that looks up the owners of paths in the listings, for
// machines on which the trees do not have them.
func (s *Stack) owners(ctx context.Context) (func(path string, t listing.Type) (uid, gid int, ok bool), error) {
	view, err := s.View(ctx)
	if err != nil {
		return nil, err
	}
	return func(path string, t listing.Type) (uid, gid int, ok bool) {
		n, ok := view.Lookup(path)
		if n.Type == listing.TypeHardlink {
			n.Type = listing.TypeFile
		}
		return n.UID, n.GID, ok && n.Type == t
	}, nil
}

// DiffChanges is changes that were found in a tree.
type DiffChanges []tarball.Change

// Len implements [Changes].
func (c DiffChanges) Len() int { return len(c) }

// Size implements [Changes].
func (c DiffChanges) Size() (n int64) {
	for i := range c {
		n += c[i].Size
	}
	return n
}

// All implements [Changes].
func (c DiffChanges) All() iter.Seq2[tarball.Change, error] {
	return func(yield func(tarball.Change, error) bool) {
		for _, ch := range c {
			if !yield(ch, nil) {
				return
			}
		}
	}
}

// Close implements [Changes].
func (c DiffChanges) Close() {}
