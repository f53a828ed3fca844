package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/filecopy"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer/diff"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/layer/tarball"
)

// mountSet is the mounts of a RUN as the sandbox takes them, with the resources that they
// hold until the command has ended.
type mountSet struct {
	mounts  []sandbox.Mount
	env     []string // variables with secrets
	missing []string // flags that were not given for optional secrets and agents
	closers []func()
}

// explain adds the missing flags to the error of a command that failed: they are the
// probable reason.
func (m *mountSet) explain(err error) error {
	var exit *ExitError
	if len(m.missing) == 0 || !errors.As(err, &exit) {
		return err
	}
	return fmt.Errorf("%w (it was run without %s)", err, strings.Join(m.missing, ", "))
}

// miss notes that a flag was not given.
func (m *mountSet) miss(flag string) {
	if !slices.Contains(m.missing, flag) {
		m.missing = append(m.missing, flag)
	}
}

// close releases the resources, the last first.
func (m *mountSet) close() {
	for _, f := range slices.Backward(m.closers) {
		f()
	}
}

func (m *mountSet) onClose(f func()) { m.closers = append(m.closers, f) }

// mounter makes the mounts of one RUN.
type mounter struct {
	*commands
	job    solve.Job[*Result]
	op     op.Run
	opened map[int]*store.CacheMount // by index in op.Mounts
	mountSet
}

// mounts prepares the mounts of a RUN: it fetches, copies, and waits for cache mounts.
// The caller closes the result.
func (c *commands) mounts(ctx context.Context, j solve.Job[*Result], o op.Run) (*mountSet, error) {
	m := &mounter{commands: c, job: j, op: o}
	err := m.openCaches(ctx)
	for i := 0; i < len(o.Mounts) && err == nil; i++ {
		err = m.add(ctx, i)
	}
	if err == nil && len(o.Files) > 0 {
		err = m.addScripts()
	}
	if err != nil {
		m.close()
		return nil, err
	}
	return &m.mountSet, nil
}

// add adds the i-th mount.
func (m *mounter) add(ctx context.Context, i int) error {
	want := m.op.Mounts[i]
	mount := sandbox.Mount{Target: want.Target, ReadOnly: want.ReadOnly}
	switch want.Type {
	case "bind":
		if err := m.bind(ctx, want, &mount); err != nil {
			return err
		}
	case "cache":
		mount.Type, mount.Source = "bind", m.opened[i].Data
		if m.inGuest() {
			if err := m.guestCache(want, m.opened[i].Data, &mount); err != nil {
				return err
			}
		}
		if want.Input == 0 && want.Source != "/" {
			mount.Subpath = want.Source
		}
	case "tmpfs":
		mount.Type, mount.Size = "tmpfs", want.Size
	case "secret":
		return m.secret(want, m.op.Extra.Origins[i])
	case "ssh":
		return m.agent(want, m.op.Extra.Origins[i])
	default:
		return fmt.Errorf("mount of type %q is not known", want.Type)
	}
	m.mountSet.mounts = append(m.mountSet.mounts, mount)
	return nil
}

// scriptsDir is where executed heredocs are in a tree.
const scriptsDir = "/dev/pipes"

// addScripts mounts the heredocs that are executed as files.
func (m *mounter) addScripts() error {
	if m.inGuest() {
		m.mountSet.mounts = append(m.mountSet.mounts, guestScripts(m.op.Files)...)
		return nil
	}
	dir, err := m.scripts(m.op.Files)
	if err != nil {
		return err
	}
	m.onClose(func() { os.RemoveAll(dir) })
	m.mountSet.mounts = append(m.mountSet.mounts, sandbox.Mount{Type: "bind", Source: dir, Target: scriptsDir, ReadOnly: true})
	return nil
}

// bind mounts a part of a tree or a context. Changes go to a directory that is removed.
func (m *mounter) bind(ctx context.Context, want op.Mount, mount *sandbox.Mount) error {
	r := m.job.In[want.Input]
	if m.inGuest() {
		return m.guestBind(ctx, want, mount)
	}
	if r.dir != nil {
		return m.bindContext(ctx, want, mount)
	}
	lowers, err := r.stack.Trees(ctx)
	if err != nil {
		return err
	}
	mount.Type, mount.Lowers, mount.Subpath = "overlay", lowers, want.Source
	inside := path.Clean("/"+want.Source) != "/"
	if want.ReadOnly && inside && len(lowers) > 0 {
		return nil
	}
	upper, err := r.stack.NewUpper(ctx)
	if err == nil && want.ReadOnly && len(lowers) > 0 {
		// Its attributes are those of the root directory; no other tree has them for sure.
		m.onClose(func() { upper.Close() })
		mount.Lowers = append([]string{upper.Dir}, lowers...)
		return nil
	}
	return m.useUpper(mount, upper, err)
}

// bindContext mounts a copy of files of a context, so that steps cannot reach the user's
// own.
func (m *mounter) bindContext(ctx context.Context, want op.Mount, mount *sandbox.Mount) error {
	c, err := m.contextCopy(ctx, m.job.In[want.Input], m.job.Step.In[want.Input].Sel)
	if err != nil {
		return err
	}
	if want.ReadOnly {
		mount.Type, mount.Source, mount.Subpath = "bind", c.dir, c.sub
		return nil
	}
	mount.Type, mount.Lowers, mount.Subpath = "overlay", []string{c.dir}, c.sub
	upper, err := m.store.NewTree()
	if err == nil {
		err = diff.Prepare(upper.Dir, c.root)
	}
	return m.useUpper(mount, upper, err)
}

// useUpper sets the upper directory of a mount, unless it is nil, and removes it when
// the mounts are closed. It returns err, the error of the call that made the directory.
func (m *mounter) useUpper(mount *sandbox.Mount, upper *store.Tree, err error) error {
	if upper != nil {
		m.onClose(func() { upper.Close() })
		mount.Upper, mount.Work = upper.Dir, upper.Work
	}
	return err
}

// secret passes a secret to the command, as a file in memory or as a variable.
func (m *mounter) secret(want op.Mount, origin string) error {
	value, ok, err := m.credentials[origin].Secrets.Get(want.ID)
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
		m.miss("--secret id=" + want.ID + ",src=FILE")
	}
	if want.Target == "" || !ok {
		return nil
	}
	o := want.Owner
	m.mountSet.mounts = append(m.mountSet.mounts, sandbox.Mount{
		Type: "file", Target: want.Target, ReadOnly: true, Data: string(value), UID: o.UID, GID: o.GID, Mode: o.Mode,
	})
	return nil
}

// agent passes an ssh agent to the command, through a socket of its own.
func (m *mounter) agent(want op.Mount, origin string) error {
	agents := m.credentials[origin].Agents
	if !agents.Has(want.ID) {
		if want.Required {
			return fmt.Errorf("ssh agent %s is required and not given: pass --ssh %s", want.ID, want.ID)
		}
		m.miss("--ssh " + want.ID)
		return nil
	}
	dir, err := m.store.TempDir("ssh")
	if err != nil {
		return err
	}
	m.onClose(func() { os.RemoveAll(dir) })
	socket, err := agents.Listen(want.ID, dir)
	if err != nil {
		return err
	}
	m.onClose(func() { socket.Close() })
	if err := m.setOwner(socket.Path, want.Owner); err != nil {
		return err
	}
	mount := sandbox.Mount{Type: "bind", Source: socket.Path, Target: want.Target}
	if m.inGuest() {
		mount.Type, mount.UID, mount.GID, mount.Mode = "socket", want.Owner.UID, want.Owner.GID, want.Owner.Mode
	}
	m.mountSet.mounts = append(m.mountSet.mounts, mount)
	return nil
}

// setOwner sets the mode of a file and, where files can have other owners, its owner.
func (m *mounter) setOwner(path string, o *op.Owner) error {
	if !m.isolation.SingleID {
		if err := os.Lchown(path, int(o.UID), int(o.GID)); err != nil {
			return err
		}
	}
	return os.Chmod(path, os.FileMode(o.Mode))
}

// openCaches opens the directories of the cache mounts. All steps open theirs in the
// order of the keys, so that no two wait for each other.
func (m *mounter) openCaches(ctx context.Context) error {
	uses := map[string][]op.CacheUse{} // two mounts may have one directory
	m.opened = map[int]*store.CacheMount{}
	for _, use := range m.op.Extra.Caches {
		want := m.op.Mounts[use.Mount]
		var digest string
		if want.Input > 0 {
			s, err := m.selected(ctx, want)
			if err != nil {
				return err
			}
			digest = s.Digest
		}
		key := cacheMountKey(use.ID, want, digest)
		uses[key] = append(uses[key], use)
	}
	for _, key := range slices.Sorted(maps.Keys(uses)) {
		if err := m.checkPlaces(uses[key]); err != nil {
			return err
		}
		first := uses[key][0]
		fill := func(dir string) error {
			if m.caches.restore(ctx, key, first.ID, dir) {
				return nil
			}
			return m.fillCache(ctx, m.op.Mounts[first.Mount], dir)
		}
		open := func() (*store.CacheMount, error) {
			return m.store.CacheMount(ctx, m.caches.localKey(key), sharingFor(m.isolation.Mode, first.Sharing), fill, func() {
				m.display.vertex(m.job.Step).Log(2, []byte("waiting for another step that uses the cache "+path.Base(first.ID)+"\n"))
			})
		}
		c, leave, err := m.openCache(ctx, key, first, open)
		if err != nil {
			return err
		}
		m.onClose(leave)
		m.caches.use(key, first.ID)
		for _, use := range uses[key] {
			m.opened[use.Mount] = c
		}
	}
	return nil
}

// openCache opens a cache mount and returns a function that releases it.
func (m *mounter) openCache(ctx context.Context, key string, use op.CacheUse, open func() (*store.CacheMount, error)) (*store.CacheMount, func(), error) {
	if m.inGuest() && use.Sharing == string(store.Shared) {
		return m.caches.join(ctx, key, open)
	}
	c, err := open()
	if err != nil {
		return nil, nil, err
	}
	return c, c.Close, nil
}

// checkPlaces returns an error if a cache would have to be at two places of a tree at
// once, into which the isolation mode chroot moves it. Read-only mounts are copies.
func (m *mounter) checkPlaces(uses []op.CacheUse) error {
	if m.isolation.Mode != sandbox.Chroot || len(uses) < 2 {
		return nil
	}
	first, second := m.op.Mounts[uses[0].Mount], m.op.Mounts[uses[1].Mount]
	for _, use := range uses {
		if !m.op.Mounts[use.Mount].ReadOnly {
			return fmt.Errorf("the cache %s cannot be mounted on %s and on %s in the isolation mode chroot: without mounts, "+
				"its directory is moved into the tree of the step, to one place; mount it once and make a link to it (ln -s), "+
				"or let cairn mount (see cairn info)", path.Base(uses[0].ID), first.Target, second.Target)
		}
	}
	return nil
}

// selected returns the files of the input that a mount selects.
func (m *mounter) selected(ctx context.Context, want op.Mount) (*filecopy.Selected, error) {
	return m.selections.files(ctx, m.job.In[want.Input], m.job.Step.In[want.Input].Sel)
}

// fillCache makes the initial content of a cache mount at dir.
func (m *mounter) fillCache(ctx context.Context, want op.Mount, dir string) error {
	if want.Input > 0 && want.Owner == nil {
		s, err := m.selected(ctx, want)
		if err != nil {
			return err
		}
		err = materialize(dir, s.First(), m.layers.ApplyOptions(tarball.ApplyOptions{}))
		if root := s.First().Root(); err == nil && m.inGuest() && root.Type == listing.TypeDir {
			var x *listing.Listing
			if x, err = listChanges(root, s.First().Changes(".")); err == nil {
				err = writeRecord(dir, x)
			}
		}
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	o := want.Owner
	if o == nil {
		o = &op.Owner{Mode: 0o755}
	}
	return m.setOwner(dir, o)
}

// contextCopy is a copy of the files that a selection matches in a context.
type contextCopy struct {
	dir     string           // in the store
	sub     string           // the path in dir that was selected; "" for all
	root    listing.Entry    // of dir
	listing *listing.Listing // of dir
}

// contextCopy makes a copy, once for each selection. It stays until the store is closed.
func (c *commands) contextCopy(ctx context.Context, r *Result, sel string) (*contextCopy, error) {
	return c.copies.Do(ctx, selectionKey{r, sel}, func() (*contextCopy, error) {
		s, err := c.selections.files(ctx, r, sel)
		if err != nil {
			return nil, err
		}
		t, err := c.store.NewTree()
		if err != nil {
			return nil, err
		}
		made := &contextCopy{dir: t.Dir, root: listing.Entry{Path: ".", Type: listing.TypeDir, Mode: 0o755}}
		top, name := s.First(), "file"
		if top.Root().Type == listing.TypeDir {
			made.root, name = top.Root(), "."
		} else {
			made.sub = "/file"
		}
		err = tarball.MaterializeOver(t.Dir, top.Changes(name), c.layers.ApplyOptions(tarball.ApplyOptions{}))
		if err == nil {
			made.listing, err = listChanges(made.root, top.Changes(name))
		}
		if err != nil {
			err = c.store.ExplainFull(err)
			t.Close()
			return nil, err
		}
		t.Keep()
		return made, nil
	})
}

// listChanges lists changes, with a root directory.
func listChanges(root listing.Entry, changes iter.Seq2[tarball.Change, error]) (*listing.Listing, error) {
	root.Path = "."
	x := &listing.Listing{Entries: []listing.Entry{root}}
	for c, err := range changes {
		if err != nil {
			return nil, err
		}
		if c.Path != "." {
			x.Entries = append(x.Entries, c.Entry)
		}
	}
	slices.SortFunc(x.Entries, listing.Compare)
	return x, nil
}

// materialize makes a copy of a match, a file or a directory, at a path that does not
// exist.
func materialize(at string, m filecopy.Match, o tarball.ApplyOptions) error {
	temp := at + ".new"
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	if m.Root().Type == listing.TypeDir {
		if err := tarball.MaterializeOver(temp, m.Changes("."), o); err != nil {
			return err
		}
		return os.Rename(temp, at)
	}
	if err := tarball.MaterializeOver(temp, m.Changes("file"), o); err != nil {
		return err
	}
	if err := os.Rename(temp+"/file", at); err != nil {
		return err
	}
	return os.Remove(temp)
}
