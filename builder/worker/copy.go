package worker

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

// copier carries out one COPY or ADD: it works out what the layer holds from
// the index of the tree below, and touches no tree. Its rules are those of
// BuildKit's file operations.
type copier struct {
	w     *Worker
	op    plan.Copy
	below treeOrigin // what it copies onto
	warn  func(format string, args ...any)
	dst   *dest
	look  look
	perm  uint32 // of directories that lead to the destination
	made  work
}

// look is what becomes of a source's attributes.
type look struct {
	chown *[2]int
	chmod func(e index.Entry) uint32
}

func (l look) own(e *index.Entry) {
	if l.chown != nil {
		e.UID, e.GID = l.chown[0], l.chown[1]
	}
}

// copy makes the layer of a COPY, ADD or inline file.
func (w *Worker) copy(ctx context.Context, j solve.Job[*Result], op plan.Copy) (*work, error) {
	view, err := w.View(ctx, j.In[0])
	if err != nil {
		return nil, err
	}
	c := &copier{w: w, op: op, below: treeOrigin{w.ctx, j.In[0], view}, warn: w.vertex(j.Step).Warn, dst: newDest(view, op.Epoch), perm: 0o755}
	if err := c.attributes(view); err != nil {
		return nil, err
	}
	if err := c.sources(ctx, j); err != nil {
		c.made.release()
		return nil, err
	}
	made := c.made // a copy: what worked it out is large, and ends here
	made.changes = c.dst.changes()
	return &made, nil
}

// attributes reads --chown and --chmod.
func (c *copier) attributes(view *index.View) error {
	c.look.chmod = func(e index.Entry) uint32 { return e.Mode }
	if c.op.Chown != "" {
		uid, gid, err := owner(view, c.op.Chown, c.warn)
		if err != nil {
			return fmt.Errorf("--chown=%s: %w", c.op.Chown, err)
		}
		c.look.chown = &[2]int{uid, gid}
	}
	if c.op.Chmod == "" {
		return nil
	}
	m, err := plan.ParseMode(c.op.Chmod)
	if err != nil {
		return fmt.Errorf("--chmod=%s: %w", c.op.Chmod, err)
	}
	if m.Octal() {
		c.perm = m.Apply(0, true) & 0o777
	}
	c.look.chmod = func(e index.Entry) uint32 { return m.Apply(e.Mode, e.Type == index.TypeDir) }
	return nil
}

func (c *copier) sources(ctx context.Context, j solve.Job[*Result]) error {
	next := map[int]int{} // input -> how many of its selection's paths are done
	for _, src := range c.op.Sources {
		if src.Input == 0 {
			if err := c.match(inline(src, c.w.Now.Unix())); err != nil {
				return err
			}
			continue
		}
		in, sel := j.In[src.Input], j.Step.In[src.Input].Sel
		p, err := c.w.pick(ctx, in, sel)
		if err != nil {
			return err
		}
		defer c.w.unpick(in, sel, p)
		i := next[src.Input]
		next[src.Input]++
		for _, m := range p.paths[i] {
			if src.Unpack {
				if done, err := c.unpack(ctx, m); err != nil {
					return fmt.Errorf("unpacking %s: %w", m.name, err)
				} else if done {
					continue
				}
			}
			if err := c.match(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// inline is a heredoc as a source.
func inline(src plan.CopySource, now int64) match {
	e := index.Entry{Path: src.Name, Type: index.TypeFile, Mode: 0o644, Size: int64(len(src.Data)), MTime: now}
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(src.Data)), nil }
	return match{name: src.Name, files: listed(file{Entry: e, open: open})}
}

// match copies one path that a source matched.
func (c *copier) match(m match) error {
	isDir := m.files.head.Type == index.TypeDir
	target, err := c.target(m.name, isDir)
	if err != nil {
		return err
	}
	if m.files.n > bulky && isDir && c.dst.vacant(target) {
		return c.bulk(m, target)
	}
	return c.each(m, target, 0)
}

// each copies the files of a match, but for the first few.
func (c *copier) each(m match, target string, but int) error {
	c.dst.expect(m.files.n)
	for i, f := range m.files.all() {
		if i < but {
			continue
		}
		to := target
		if i > 0 {
			to = path.Join(target, m.rel(f))
		}
		if f.group != nil {
			f.group = linkGroup{m.files.id(), f.group} // of this match alone
		}
		if err := c.file(f, to, i == 0, m.whole); err != nil {
			return err
		}
	}
	return nil
}

// bulk copies a directory with very many files to where nothing is.
func (c *copier) bulk(m match, target string) error {
	if err := c.file(m.files.head, target, true, m.whole); err != nil {
		return err
	}
	look, epoch := c.look, c.op.Epoch // not all of the copier
	c.dst.bulks = append(c.dst.bulks, &bulk{
		root: target, from: m,
		as: func(f file, to string) tarball.Change {
			ch := tarball.Change{Entry: look.entry(f.Entry, to)}
			ch.MTime = clamp(epoch, ch.MTime)
			if f.Type == index.TypeFile {
				ch.Open = f.open
			}
			return ch
		},
		spread: func() { _ = c.each(m, target, 1) }, // where nothing was all can be put
	})
	return nil
}

// target works out where a match goes, and makes the directories that lead
// there.
func (c *copier) target(name string, isDir bool) (string, error) {
	lead := path.Dir(c.op.Dest)
	if c.op.DestDir {
		lead = c.op.Dest
	}
	lead, err := c.dst.resolve(lead, true)
	if err != nil {
		return "", err
	}
	if err := c.dst.mkdirs(lead, c.newDir()); err != nil {
		return "", err
	}
	to, err := c.dst.resolve(c.op.Dest, true)
	if err != nil {
		return "", err
	}
	if e, ok := c.dst.lookup(to); ok && e.Type == index.TypeDir && !isDir {
		to = path.Join(to, name)
	}
	return to, c.dst.mkdirs(path.Dir(to), c.newDir())
}

// newDir is what a directory that the builder makes looks like.
func (c *copier) newDir() index.Entry {
	e := index.Entry{Mode: c.perm, MTime: c.w.Now.Unix()}
	c.look.own(&e)
	return e
}

// file copies one file. The destination directory itself keeps its attributes,
// or gets those of one that the builder makes, and takes only the source's time;
// directories below take all of the source's, and so does a missing one if the
// source is whole.
func (c *copier) file(f file, to string, top, whole bool) error {
	old, exists := c.dst.lookup(to)
	e := c.look.entry(f.Entry, to)
	switch {
	case f.Type == index.TypeDir && exists && old.Type != index.TypeDir:
		return fmt.Errorf("cannot copy to non-directory: /%s", to)
	case f.Type == index.TypeDir && top && (exists || !whole):
		if !exists {
			old = c.newDir()
			old.Path, old.Type = to, index.TypeDir
		}
		if f.Path != "." || f.MTime != 0 { // an image's root has no time
			old.MTime = e.MTime
		}
		e = old
	case f.lead && exists:
		old.Mode = f.Mode // as BuildKit does, whatever --chmod says
		e = old
	case f.Type != index.TypeDir && exists && old.Type == index.TypeDir:
		return fmt.Errorf("cannot replace to directory /%s with file", to)
	}
	change := tarball.Change{Entry: e}
	if f.Type != index.TypeFile {
		c.dst.put(change)
		return nil
	}
	change.Open = f.open
	if f.group == nil {
		c.dst.put(change)
		return nil
	}
	c.dst.link(change, f.group)
	return nil
}

// entry is a source's entry at its destination.
func (l look) entry(e index.Entry, to string) index.Entry {
	e.Path, e.Content = to, nil
	l.own(&e)
	if e.Type != index.TypeSymlink {
		e.Mode = l.chmod(e)
	}
	return e
}
