package worker

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer/diff"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Where no overlay can be mounted, a RUN works in a plain tree: a copy of all layers
// below, laid over each other. What it changed is found by comparing, and the tree
// serves the next RUN of the stage.

// plainTree is a plain tree, and what it looked like when it was that of a result.
type plainTree struct {
	tree   *store.Tree
	record *diff.Record
}

// plainTrees are those that a RUN has left, by its result.
type plainTrees struct {
	kind func() (sandbox.Snapshot, error)
	warn sync.Once

	mu    sync.Mutex
	trees map[*Result]*plainTree
}

// snapshots is the kind of snapshot that the store can have, found out once a boot.
func (w *Worker) snapshots() (sandbox.Snapshot, error) {
	name := "snapshots " + string(w.Isolation.Rung) + " " + thisBoot(w.Store.Root())
	if b, err := w.Store.Hint(name); err == nil {
		return sandbox.Snapshot(b), nil
	}
	kind, err := w.Isolation.Snapshots(w.Store.Root())
	if kind == sandbox.NoSnapshot {
		return kind, err
	}
	return kind, w.Store.PutHint(name, []byte(kind))
}

// thisBoot names the boot of the machine and the file system of a folder.
func thisBoot(dir string) string {
	var st unix.Stat_t
	_ = unix.Stat(dir, &st)
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)) + fmt.Sprintf(" %x", st.Dev)
}

// plainly prepares a command to run in a plain tree of the result, where nothing else
// is to be had; else it gives nil.
func (w *Worker) plainly(ctx context.Context, below *Result, spec *sandbox.Spec) (*plainTree, error) {
	kind, err := w.plain.kind()
	if err != nil || kind != sandbox.Plain {
		return nil, err
	}
	w.plain.warn.Do(func() {
		if w.Isolation.Rung == sandbox.Chroot {
			w.Progress.Warn("steps run without namespaces and mounts: /proc tells of no process, and what keeps a step in is the container that cairn runs in (see cairn info)")
			return
		}
		w.Progress.Warn("the store carries no overlay here: each stage works in a copy of its layers, which takes time and room (see cairn info)")
	})
	p, err := w.takePlain(ctx, below)
	if err != nil {
		return nil, err
	}
	spec.Root, spec.Chroot = p.tree.Dir, w.Isolation.Rung == sandbox.Chroot
	for i := range spec.Mounts {
		if err := w.flatMount(&spec.Mounts[i]); err != nil {
			p.drop()
			return nil, err
		}
	}
	return p, nil
}

// drop removes the tree; nil has none.
func (p *plainTree) drop() {
	if p != nil {
		p.tree.Close()
	}
}

// keepPlain keeps the tree in which a result was made, for who comes next.
func (w *Worker) keepPlain(r *Result, p *plainTree) {
	if p == nil {
		return
	}
	w.plain.mu.Lock()
	defer w.plain.mu.Unlock()
	w.plain.trees[r] = p
}

// takePlain gives a plain tree of a result: that of a RUN below, if no one has taken
// it, with the layers since laid over it, or else a new one.
func (w *Worker) takePlain(ctx context.Context, r *Result) (*plainTree, error) {
	dirs, err := w.Trees(ctx, r)
	if err != nil {
		return nil, err
	}
	n, at := 0, r
	var p *plainTree
	w.plain.mu.Lock()
	for ; at != nil && at.layer != nil && n < len(dirs); n, at = n+1, at.below {
		if p = w.plain.trees[at]; p != nil {
			delete(w.plain.trees, at)
			break
		}
	}
	w.plain.mu.Unlock()
	if p == nil {
		return w.newPlain(ctx, r, dirs)
	}
	if err := w.layPlain(ctx, r, p, dirs[:n]); err != nil {
		p.drop()
		return nil, err
	}
	return p, nil
}

func (w *Worker) newPlain(ctx context.Context, r *Result, dirs []string) (*plainTree, error) {
	t, err := w.Store.NewTree()
	if err != nil {
		return nil, err
	}
	p := &plainTree{tree: t}
	if err = sandbox.MountPoints(t.Dir); err == nil {
		err = w.layPlain(ctx, r, p, dirs)
	}
	if err != nil {
		p.drop()
		return nil, err
	}
	return p, nil
}

// layPlain lays trees, topmost first, over p, and records what that gives.
func (w *Worker) layPlain(ctx context.Context, r *Result, p *plainTree, dirs []string) (err error) {
	for i := len(dirs) - 1; i >= 0; i-- {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := tarball.Lay(p.tree.Dir, dirs[i]); err != nil {
			return err
		}
	}
	if len(dirs) == 0 && p.record != nil {
		return nil
	}
	root, err := w.rootOf(ctx, r)
	if err == nil {
		err = diff.Prepare(p.tree.Dir, root)
	}
	if err == nil {
		p.record, err = diff.Look(ctx, p.tree.Dir)
	}
	return err
}

// flatMount turns a mount of layers into one of a copy of them.
func (w *Worker) flatMount(m *sandbox.Mount) error {
	if m.Type != "overlay" {
		return nil
	}
	dir, err := w.Store.TempDir("mount")
	if err != nil {
		return err
	}
	for i := len(m.Lowers) - 1; i >= 0; i-- {
		if err := tarball.Lay(dir, m.Lowers[i]); err != nil {
			return err
		}
	}
	*m = sandbox.Mount{Type: "bind", Target: m.Target, ReadOnly: m.ReadOnly, Source: dir, Subpath: m.Subpath}
	return nil
}

// Plainly is for commands whose changes are thrown away: done does that.
func (w *Worker) Plainly(ctx context.Context, r *Result, spec *sandbox.Spec) (done func(), err error) {
	p, err := w.plainly(ctx, r, spec)
	return p.drop, err
}
