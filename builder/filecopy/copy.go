// Package filecopy computes the layers of COPY, ADD and WORKDIR on path listings.
//
// A [Source] lists the files to copy: those of a build context, of an image or stage,
// or one download. [Select] finds the paths that a Dockerfile's patterns match in it,
// with a digest of their content for the step's key. A [Copier] then computes the changes
// to the destination from the listing of the tree below: neither tree is on disk, and the
// bytes of files are read when the layer is written. The rules, including the errors, are
// those of BuildKit's file operations.
//
// Lists may be long: a context of 300,000 files takes about 200 bytes for each.
package filecopy

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// Tree is the merged tree of a stack of layers.
type Tree struct {
	View *listing.View
	Open func(n listing.Node) (io.ReadCloser, error) // opens a regular file of View
	// Digest returns the digest of a regular file that has none in View. It may wait.
	Digest func(n listing.Node) (layer.Digest, error)
	// Time, if not nil, returns the exact mtime of a path of View, or false if it is not
	// known.
	Time func(n listing.Node) (time.Time, bool)
}

// timeOf returns a function that returns the exact mtime of a node.
func (t Tree) timeOf(n listing.Node) func() time.Time {
	if t.Time == nil {
		return nil
	}
	return func() time.Time {
		if at, ok := t.Time(n); ok {
			return at
		}
		return time.Unix(n.MTime, 0)
	}
}

// Copier carries out one COPY or ADD.
type Copier struct {
	Op    op.Copy
	Below Tree      // the tree that is copied into
	Now   time.Time // the time of directories and files that the builder makes itself
	Warn  func(format string, args ...any)
	// Select returns the matches of Op's paths that refer to input, which is at least 1.
	// Copy calls release when it no longer needs them.
	Select func(ctx context.Context, input int) (s *Selected, release func(), err error)
	// TempDir makes a directory for the files of archives that ADD unpacks, in bytes
	// bounded by Archives.
	TempDir  func(pattern string) (string, error)
	Archives tarball.Limits

	dst     *destination
	attrs   attributes
	dirMode uint32 // of directories that lead to the destination
	close   []func()
}

// attributes changes the owner and mode of copied files.
type attributes struct {
	chown *[2]int                      // uid and gid; nil keeps the source's
	chmod func(e listing.Entry) uint32 // returns the mode
}

func (a attributes) setOwner(e *listing.Entry) {
	if a.chown != nil {
		e.UID, e.GID = a.chown[0], a.chown[1]
	}
}

// entry returns the entry of a source's file at its destination.
func (a attributes) entry(e listing.Entry, to string) listing.Entry {
	e.Path, e.Content = to, nil
	a.setOwner(&e)
	if e.Type != listing.TypeSymlink {
		e.Mode = a.chmod(e)
	}
	return e
}

// Copy returns the changes to Below. The caller closes them when it no longer reads the
// files. A Copier copies once.
func (c *Copier) Copy(ctx context.Context) (*Changes, error) {
	c.dst, c.dirMode = newDestination(c.Below, c.Op.Epoch), 0o755
	err := c.parseAttributes()
	if err == nil {
		err = c.copySources(ctx)
	}
	if err != nil {
		(&Changes{close: c.close}).Close()
		return nil, err
	}
	made, err := c.dst.changes()
	if err != nil {
		(&Changes{close: c.close}).Close()
		return nil, err
	}
	made.close = c.close
	return made, nil
}

// parseAttributes reads --chown and --chmod.
func (c *Copier) parseAttributes() error {
	c.attrs.chmod = func(e listing.Entry) uint32 { return e.Mode }
	if c.Op.Chown != "" {
		uid, gid, err := Owner(c.Below.View, c.Op.Chown, c.Warn)
		if err != nil {
			return fmt.Errorf("--chown=%s: %w", c.Op.Chown, err)
		}
		c.attrs.chown = &[2]int{uid, gid}
	}
	if c.Op.Chmod == "" {
		return nil
	}
	m, err := op.ParseMode(c.Op.Chmod)
	if err != nil {
		return fmt.Errorf("--chmod=%s: %w", c.Op.Chmod, err)
	}
	if m.Octal() {
		c.dirMode = m.Apply(0, true) & 0o777
	}
	c.attrs.chmod = func(e listing.Entry) uint32 { return m.Apply(e.Mode, e.Type == listing.TypeDir) }
	return nil
}

func (c *Copier) copySources(ctx context.Context) error {
	next := map[int]int{} // input -> index of the next path of its selection
	for _, src := range c.Op.Sources {
		if src.Input == 0 {
			if err := c.copyMatch(inlineFile(src, c.Now)); err != nil {
				return err
			}
			continue
		}
		selected, release, err := c.Select(ctx, src.Input)
		if err != nil {
			return err
		}
		defer release()
		i := next[src.Input]
		next[src.Input]++
		for _, m := range selected.paths[i] {
			if err := c.copyOrUnpack(ctx, m, src.Unpack); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyOrUnpack copies a match, or the contents of an archive if unpack is set and the
// match is one.
func (c *Copier) copyOrUnpack(ctx context.Context, m Match, unpack bool) error {
	if unpack {
		if done, err := c.unpack(ctx, m); err != nil {
			return fmt.Errorf("unpacking %s: %w", m.name, err)
		} else if done {
			return nil
		}
	}
	return c.copyMatch(m)
}

// inlineFile returns the file of a heredoc.
func inlineFile(src op.CopySource, now time.Time) Match {
	e := listing.Entry{Path: src.Name, Type: listing.TypeFile, Mode: 0o644, Size: int64(len(src.Data)), MTime: now.Unix(), Digest: layer.FromBytes([]byte(src.Data))}
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(src.Data)), nil }
	return Match{name: src.Name, files: listOf(File{Entry: e, Open: open, Time: at(now)})}
}

// copyMatch copies one path that a source matched.
func (c *Copier) copyMatch(m Match) error {
	isDir := m.files.head.Type == listing.TypeDir
	target, err := c.target(m.name, isDir)
	if err != nil {
		return err
	}
	if m.files.n > bulkSize && isDir && c.dst.isFree(target) {
		return c.copyBulk(m, target)
	}
	return c.copyEach(m, target, 0)
}

// copyEach copies the files of a match one by one, except the first skip
// files.
func (c *Copier) copyEach(m Match, target string, skip int) error {
	c.dst.grow(m.files.n)
	for i, f := range m.files.all() {
		if i < skip {
			continue
		}
		to := target
		if i > 0 {
			to = path.Join(target, m.rel(f))
		}
		if f.group != nil {
			f.group = linkGroup{m.files.id(), f.group} // links join the files of one match only
		}
		if err := c.copyFile(f, to, i == 0, m.whole); err != nil {
			return err
		}
	}
	return nil
}

// copyBulk copies a directory with very many files to a free path.
func (c *Copier) copyBulk(m Match, target string) error {
	if err := c.copyFile(m.files.head, target, true, m.whole); err != nil {
		return err
	}
	attrs, epoch := c.attrs, c.Op.Epoch // the closure must not keep the Copier
	c.dst.bulks = append(c.dst.bulks, &bulk{
		root: target, from: m,
		change: func(f File, to string) tarball.Change {
			ch := tarball.Change{Entry: attrs.entry(f.Entry, to), Time: f.Time}
			ch.MTime = clamp(epoch, ch.MTime)
			if f.Type == listing.TypeFile {
				ch.Open = f.Open
			}
			return ch
		},
		expand: func() { _ = c.copyEach(m, target, 1) }, // cannot fail below a free path
	})
	return nil
}

// target returns the path that a match is copied to, and makes the directories that
// lead there.
func (c *Copier) target(name string, isDir bool) (string, error) {
	lead := path.Dir(c.Op.Dest)
	if c.Op.DestDir {
		lead = c.Op.Dest
	}
	lead, err := c.dst.resolve(lead)
	if err != nil {
		return "", err
	}
	if err := c.dst.mkdirs(lead, c.newDir()); err != nil {
		return "", err
	}
	to, err := c.dst.resolve(c.Op.Dest)
	if err != nil {
		return "", err
	}
	if e, ok := c.dst.lookup(to); ok && e.Type == listing.TypeDir && !isDir {
		to = path.Join(to, name)
	}
	return to, c.dst.mkdirs(path.Dir(to), c.newDir())
}

// newDir returns the attributes of a directory that the builder makes.
func (c *Copier) newDir() listing.Entry {
	e := listing.Entry{Mode: c.dirMode, MTime: c.Now.Unix()}
	c.attrs.setOwner(&e)
	return e
}

// copyFile copies one file, which is the match itself if top is set. If that is a
// directory and the destination exists, the destination keeps its attributes except
// the time. If the destination is missing, it gets the attributes of the source if
// whole is set (the directory itself is copied), otherwise those of newDir (only its
// content is). Directories below always get the attributes of their source.
func (c *Copier) copyFile(f File, to string, top, whole bool) error {
	old, exists := c.dst.lookup(to)
	e, time := c.attrs.entry(f.Entry, to), f.Time
	switch {
	case f.Type == listing.TypeDir && exists && old.Type != listing.TypeDir:
		return fmt.Errorf("cannot copy to non-directory: /%s", to)
	case f.Type == listing.TypeDir && top && (exists || !whole):
		if !exists {
			old = c.newDir()
			old.Path, old.Type = to, listing.TypeDir
		}
		if f.Path != "." || f.MTime != 0 { // the root of an image has no time
			old.MTime = e.MTime
		} else {
			time = c.dst.timeAt(to)
		}
		e = old
	case f.lead && exists:
		old.Mode = f.Mode // like BuildKit, which ignores --chmod here
		e, time = old, c.dst.timeAt(to)
	case f.Type != listing.TypeDir && exists && old.Type == listing.TypeDir:
		return fmt.Errorf("cannot replace to directory /%s with file", to)
	}
	change := tarball.Change{Entry: e, Time: time}
	if f.Type != listing.TypeFile {
		c.dst.set(change)
		return nil
	}
	change.Open = f.Open
	if f.group == nil {
		c.dst.set(change)
		return nil
	}
	c.dst.setLink(change, f.group)
	return nil
}
