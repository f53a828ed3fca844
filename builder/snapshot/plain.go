package snapshot

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer/diff"
	"github.com/cairn-build/cairn/layer/once"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tree"
)

// plainTree is a copy of all layers of a stack in one directory. A command works in one
// where no overlay can be mounted. Comparing it with its record finds the changes, and
// afterwards it serves the next command of the stage.
type plainTree struct {
	tree   *store.Tree
	record *diff.Record // the tree before the command; nil if that has failed
	pristine
}

// drop removes the tree. It does nothing if p is nil.
func (p *plainTree) drop() {
	if p != nil {
		p.tree.Close()
	}
}

// plainTrees has the plain trees that are free for use.
type plainTrees struct {
	kind once.Value[sandbox.Snapshot]
	warn sync.Once

	mu    sync.Mutex
	trees map[*Stack]*plainTree // by their content
}

// put keeps a plain tree, unless it is nil, for the next command on s.
func (t *plainTrees) put(s *Stack, p *plainTree) {
	if p == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trees[s] = p
}

// take removes the plain tree of the highest stack at or below s, and returns it with
// the number of layers of s above it. It looks at the top limit layers and returns nil if
// there is none.
func (t *plainTrees) take(s *Stack, limit int) (p *plainTree, above int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := 0; s.layer != nil && n < limit; n, s = n+1, s.below {
		if p := t.trees[s]; p != nil {
			delete(t.trees, s)
			return p, n
		}
	}
	return nil, 0
}

// takeAll removes and returns all plain trees.
func (t *plainTrees) takeAll() []*plainTree {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.Collect(maps.Values(t.trees))
	clear(t.trees)
	return all
}

// snapshotKind returns the kind of snapshot that the store's file system allows. It is
// probed once a boot.
func (m *Manager) snapshotKind(ctx context.Context) (sandbox.Snapshot, error) {
	return m.plain.kind.Do(ctx, func() (sandbox.Snapshot, error) {
		name := "snapshots " + string(m.Isolation.Mode) + " " + bootOf(m.Store.Root())
		if b, err := m.Store.Hint(name); err == nil {
			return sandbox.Snapshot(b), nil
		}
		kind, err := m.Isolation.ProbeSnapshot(m.Store.Root())
		if kind == sandbox.NoSnapshot {
			return kind, err
		}
		return kind, m.Store.PutHint(name, []byte(kind))
	})
}

// bootOf identifies the boot of the machine and the file system of a directory.
func bootOf(dir string) string {
	var st unix.Stat_t
	_ = unix.Stat(dir, &st)
	return store.BootID() + fmt.Sprintf(" %x", st.Dev)
}

func (m *Manager) warnPlain() {
	m.plain.warn.Do(func() {
		if m.Isolation.Mode == sandbox.Chroot {
			m.Progress.Warn("steps run by chroot, without namespaces and mounts: /proc has only a few files, and only the container that cairn runs in isolates them (see cairn info)")
			return
		}
		m.Progress.Warn("overlayfs is not available for the store; falling back to copying layers (slower, uses more disk; see cairn info)")
	})
}

// plainTree returns a plain tree of the stack: that of a command below, or of its image,
// with the later layers copied over it, or a new one.
func (s *Stack) plainTree(ctx context.Context) (*plainTree, error) {
	s.m.warnPlain()
	dirs, err := s.Trees(ctx)
	if err != nil {
		return nil, err
	}
	p, above := s.m.plain.take(s, len(dirs))
	if p == nil {
		image := s.image()
		if p, err = image.imageTree(ctx); err != nil {
			return nil, err
		}
		above = s.depth - image.depth
	}
	if err := s.lay(ctx, p, dirs[:min(above, len(dirs))]); err != nil {
		err = s.m.Store.ExplainFull(err)
		p.drop()
		return nil, err
	}
	return p, nil
}

// newPlainTree returns a tree that has nothing but mount points.
func (m *Manager) newPlainTree() (*plainTree, error) {
	t, err := m.Store.NewTree()
	if err != nil {
		return nil, err
	}
	p := &plainTree{tree: t}
	if err := sandbox.MountPoints(t.Dir); err != nil {
		p.drop()
		return nil, err
	}
	return p, nil
}

// lay copies trees, topmost first, over p and records the result.
func (s *Stack) lay(ctx context.Context, p *plainTree, dirs []string) (err error) {
	for i := len(dirs) - 1; i >= 0; i-- {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := tree.Lay(p.tree.Dir, dirs[i]); err != nil {
			return err
		}
	}
	root, err := s.rootEntry(ctx)
	if err == nil {
		err = diff.Prepare(p.tree.Dir, root) // the last command may have changed the mode
	}
	if err == nil && (len(dirs) > 0 || p.record == nil) {
		p.record, err = diff.Look(ctx, p.tree.Dir)
	}
	return err
}

// copyMount replaces an overlay mount by a bind mount of a copy of its layers.
func (m *Manager) copyMount(mount *sandbox.Mount) error {
	if mount.Type != "overlay" {
		return nil
	}
	dir, err := m.Store.TempDir("mount")
	if err != nil {
		return err
	}
	for i := len(mount.Lowers) - 1; i >= 0; i-- {
		if err := tree.Lay(dir, mount.Lowers[i]); err != nil {
			return err
		}
	}
	*mount = sandbox.Mount{Type: "bind", Target: mount.Target, ReadOnly: mount.ReadOnly, Source: dir, Subpath: mount.Subpath}
	return nil
}
