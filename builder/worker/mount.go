package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer/diff"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

// mounted is what a RUN's mounts come to: what the sandbox is told, and what is
// held until the command has ended.
type mounted struct {
	mounts []sandbox.Mount
	env    []string // variables that hold secrets
	lacks  []string // flags that would have given the command what it may do without
	close  []func()
}

// blame adds to the failure of a command what it was not given: that is probably
// why.
func (m *mounted) blame(err error) error {
	var exit *ExitError
	if len(m.lacks) == 0 || !errors.As(err, &exit) {
		return err
	}
	return fmt.Errorf("%w (it was run without %s)", err, strings.Join(m.lacks, ", "))
}

func (m *mounted) release() {
	for _, f := range slices.Backward(m.close) {
		f()
	}
}

// mounter makes the mounts of one RUN.
type mounter struct {
	w      *Worker
	j      solve.Job[*Result]
	op     plan.Run
	v      *progress.Vertex
	caches map[int]*store.CacheFolder // by index in op.Mounts
	mounted
}

// mounts makes what a RUN's mounts need: it fetches, copies, and waits for cache
// folders. Whoever calls it releases what it gives.
func (w *Worker) mounts(ctx context.Context, j solve.Job[*Result], op plan.Run, v *progress.Vertex) (*mounted, error) {
	m := &mounter{w: w, j: j, op: op, v: v}
	err := m.openCaches(ctx)
	for i := 0; i < len(op.Mounts) && err == nil; i++ {
		err = m.add(ctx, i)
	}
	if err != nil {
		m.release()
		return nil, err
	}
	return &m.mounted, nil
}

func (m *mounter) add(ctx context.Context, i int) error {
	want := m.op.Mounts[i]
	made := sandbox.Mount{Target: want.Target, ReadOnly: want.ReadOnly}
	switch want.Type {
	case "bind":
		if err := m.bind(ctx, want, &made); err != nil {
			return err
		}
	case "cache":
		made.Type, made.Source = "bind", m.caches[i].Data
		if want.Input == 0 && want.Source != "/" {
			made.Subpath = want.Source
		}
	case "tmpfs":
		made.Type, made.Size = "tmpfs", want.Size
	case "secret":
		return m.secret(want)
	case "ssh":
		return m.agent(want)
	default:
		return fmt.Errorf("mount of type %q is not known", want.Type)
	}
	m.mounts = append(m.mounts, made)
	return nil
}

// bind shows a part of a tree or a context. What is written goes to a directory
// that is thrown away.
func (m *mounter) bind(ctx context.Context, want plan.Mount, made *sandbox.Mount) error {
	r := m.j.In[want.Input]
	if r.dir != nil {
		return m.bindContext(ctx, want, made)
	}
	lowers, err := m.w.Trees(ctx, r)
	if err != nil {
		return err
	}
	made.Type, made.Lowers, made.Subpath = "overlay", lowers, want.Source
	if want.ReadOnly && len(lowers) > 0 {
		return nil
	}
	upper, err := m.w.Upper(ctx, r)
	return m.discard(made, upper, err)
}

// bindContext shows files of a context as a copy: the user's own are never
// within reach of a step.
func (m *mounter) bindContext(ctx context.Context, want plan.Mount, made *sandbox.Mount) error {
	c, err := m.w.contextCopy(ctx, m.j.In[want.Input], m.j.Step.In[want.Input].Sel, m.op.Epoch)
	if err != nil {
		return err
	}
	if want.ReadOnly {
		made.Type, made.Source, made.Subpath = "bind", c.dir, c.sub
		return nil
	}
	made.Type, made.Lowers, made.Subpath = "overlay", []string{c.dir}, c.sub
	upper, err := m.w.Store.NewTree()
	if err == nil {
		err = diff.Prepare(upper.Dir, c.root)
	}
	return m.discard(made, upper, err)
}

// discard gives a mount an upper directory that nobody keeps.
func (m *mounter) discard(made *sandbox.Mount, upper *store.Tree, err error) error {
	if upper != nil {
		m.close = append(m.close, func() { upper.Close() })
		made.Upper, made.Work = upper.Dir, upper.Work
	}
	return err
}

// secret gives the command the value of a secret, as a file in memory or as a
// variable.
func (m *mounter) secret(want plan.Mount) error {
	value, ok, err := m.w.Secrets.Get(want.ID)
	if err != nil {
		return err
	}
	if !ok && want.Required {
		return fmt.Errorf("secret %s is required and not given: pass --secret id=%s,src=FILE", want.ID, want.ID)
	}
	if want.Env != "" {
		if bytes.IndexByte(value, 0) >= 0 {
			return fmt.Errorf("secret %s holds a zero byte: it can't be the value of %s", want.ID, want.Env)
		}
		m.env = append(m.env, want.Env+"="+string(value))
	}
	if !ok {
		m.lacks = append(m.lacks, "--secret id="+want.ID+",src=FILE")
	}
	if want.Target == "" || !ok {
		return nil
	}
	o := want.Owner
	m.mounts = append(m.mounts, sandbox.Mount{
		Type: "file", Target: want.Target, ReadOnly: true, Data: string(value), UID: o.UID, GID: o.GID, Mode: o.Mode,
	})
	return nil
}

// openCaches takes the cache folders, in an order that is the same for all
// steps, so that no two wait for each other.
func (m *mounter) openCaches(ctx context.Context) error {
	uses := map[string][]plan.CacheUse{} // two mounts may be of one folder
	m.caches = map[int]*store.CacheFolder{}
	for _, use := range m.op.Extra.Caches {
		key, err := m.cacheKey(ctx, use)
		if err != nil {
			return err
		}
		uses[key] = append(uses[key], use)
	}
	for _, key := range slices.Sorted(maps.Keys(uses)) {
		first := uses[key][0]
		fill := func(data string) error {
			if m.w.carried(ctx, key, first.ID, data) {
				return nil
			}
			return m.fillCache(ctx, m.op.Mounts[first.Mount], data)
		}
		c, err := m.w.Store.CacheFolder(ctx, key, m.sharing(first), fill, func() {
			m.v.Log(2, []byte("waiting for another step that uses the cache "+path.Base(first.ID)+"\n"))
		})
		if err != nil {
			return err
		}
		m.close = append(m.close, c.Close)
		m.w.usedFolder(key, first.ID)
		for _, use := range uses[key] {
			m.caches[use.Mount] = c
		}
	}
	return nil
}

// sharing keeps a folder to one step where that is moved into its tree.
func (m *mounter) sharing(use plan.CacheUse) store.Sharing {
	s := store.Sharing(use.Sharing)
	if m.w.Isolation.Rung == sandbox.Chroot && s == store.Shared {
		return store.Locked
	}
	return s
}

// cacheKey is what a cache folder is kept under: its id, and what it begins
// with.
func (m *mounter) cacheKey(ctx context.Context, use plan.CacheUse) (string, error) {
	want := m.op.Mounts[use.Mount]
	key := "cache " + use.ID
	if want.Input > 0 {
		p, err := m.w.pick(ctx, m.j.In[want.Input], m.j.Step.In[want.Input].Sel)
		if err != nil {
			return "", err
		}
		key += "\x00" + p.digest + want.Source
	}
	if o := want.Owner; o != nil {
		key += fmt.Sprintf("\x00%d:%d %o", o.UID, o.GID, o.Mode)
	}
	return key, nil
}

// fillCache makes what a new cache folder begins with.
func (m *mounter) fillCache(ctx context.Context, want plan.Mount, data string) error {
	if want.Input > 0 && want.Owner == nil {
		p, err := m.w.pick(ctx, m.j.In[want.Input], m.j.Step.In[want.Input].Sel)
		if err != nil {
			return err
		}
		return lay(data, p.paths[0][0], m.w.owners(tarball.ApplyOptions{Epoch: m.op.Epoch}))
	}
	o := want.Owner
	if o == nil {
		o = &plan.Owner{Mode: 0o755}
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if err := m.w.give(data, o); err != nil {
		return err
	}
	return os.Chmod(data, os.FileMode(o.Mode))
}

// contextCopy is a copy of what a selection picks from a context.
type contextCopy struct {
	dir  string      // a folder of the store
	sub  string      // what of it is wanted; "": all of it
	root index.Entry // of dir
}

// contextCopy makes the copy, once for each selection. It stays until the store
// is closed.
func (w *Worker) contextCopy(ctx context.Context, r *Result, sel string, epoch *int64) (*contextCopy, error) {
	return w.copies.do(pickKey{r, sel}, func() (*contextCopy, error) {
		p, err := w.pick(ctx, r, sel)
		if err != nil {
			return nil, err
		}
		t, err := w.Store.NewTree()
		if err != nil {
			return nil, err
		}
		o := w.owners(tarball.ApplyOptions{Epoch: epoch})
		top := p.paths[0][0]
		c := &contextCopy{dir: t.Dir, root: index.Entry{Path: ".", Type: index.TypeDir, Mode: 0o755}}
		if to := t.Dir; top.files.head.Type == index.TypeDir {
			c.root = top.files.head.Entry
			err = layIn(to, top, ".", o)
		} else {
			c.sub = "/file"
			err = layIn(to, top, "file", o)
		}
		if err != nil {
			t.Close()
			return nil, err
		}
		t.Keep()
		return c, nil
	})
}

// lay makes a copy of what a source matched at a path where nothing is.
func lay(at string, m match, o tarball.ApplyOptions) error {
	temp := at + ".new"
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	if m.files.head.Type == index.TypeDir {
		if err := layIn(temp, m, ".", o); err != nil {
			return err
		}
		return os.Rename(temp, at)
	}
	if err := layIn(temp, m, "file", o); err != nil {
		return err
	}
	if err := os.Rename(temp+"/file", at); err != nil {
		return err
	}
	return os.Remove(temp)
}

// layIn makes a copy of what a source matched inside an empty folder; name is
// what the match itself is called there.
func layIn(dir string, m match, name string, o tarball.ApplyOptions) error {
	changes := func(yield func(tarball.Change, error) bool) {
		first := map[any]string{}
		for _, f := range m.files.all() {
			c := tarball.Change{Entry: f.Entry, Open: f.open}
			c.Path, c.Content = path.Join(name, m.rel(f)), nil
			if f.group != nil && f.Type == index.TypeFile {
				if to, ok := first[f.group]; ok {
					c = tarball.Change{Entry: index.Entry{Path: c.Path, Type: index.TypeHardlink, Link: to}}
				} else {
					first[f.group] = c.Path
				}
			}
			if !yield(c, nil) {
				return
			}
		}
	}
	return tarball.MaterializeOver(dir, changes, o)
}
