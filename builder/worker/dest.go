package worker

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/tarball"
)

// dest is a tree that a step changes without it being there: what lies below,
// known by its index, and the changes so far.
type dest struct {
	view    *index.View
	epoch   *int64           // no time is later
	all     []tarball.Change // what was set, as long as at has it
	at      map[string]int   // path -> its index in all
	group   map[string]any   // of files: those of the same group are hard links of each other
	gone    map[string]bool  // directories of the view that something else replaced
	touched map[string]bool  // directories that got or lost a name
	bulks   []*bulk          // what lies below directories that were set
}

func newDest(view *index.View, epoch *int64) *dest {
	return &dest{view: view, epoch: epoch, at: map[string]int{}, group: map[string]any{}, gone: map[string]bool{}, touched: map[string]bool{}}
}

// expect makes room for n more changes: a list that grows by itself is there
// twice for a while.
func (d *dest) expect(n int) {
	d.all = slices.Grow(d.all, n)
	if len(d.at) == 0 {
		d.at = make(map[string]int, n)
	}
}

func (d *dest) clamp(mtime int64) int64 { return clamp(d.epoch, mtime) }

// clamp makes a time no later than an epoch, if there is one.
func clamp(epoch *int64, mtime int64) int64 {
	if epoch != nil {
		return min(mtime, *epoch)
	}
	return mtime
}

// get finds what was set for a path.
func (d *dest) get(p string) (tarball.Change, bool) {
	d.spread(p)
	i, ok := d.at[p]
	if !ok {
		return tarball.Change{}, false
	}
	return d.all[i], true
}

// lookup finds a path as it is now; nothing is followed.
func (d *dest) lookup(p string) (index.Entry, bool) {
	if c, ok := d.get(p); ok {
		return c.Entry, true
	}
	if len(d.gone) > 0 {
		for up := path.Dir(p); up != "."; up = path.Dir(up) {
			if d.gone[up] {
				return index.Entry{}, false
			}
		}
	}
	n, ok := d.view.Lookup(p)
	return n.Entry, ok
}

// resolve follows symlinks inside the tree, in the last element too if last is
// set. The part that does not exist is taken as it is written.
func (d *dest) resolve(p string, last bool) (string, error) {
	done, rest := ".", strings.Split(clean(p), "/")
	for links := 0; len(rest) > 0; {
		elem := rest[0]
		rest = rest[1:]
		if elem == "." || elem == "" {
			continue
		}
		if elem == ".." {
			done = path.Dir(done)
			continue
		}
		at := path.Join(done, elem)
		e, ok := d.lookup(at)
		if !ok || e.Type != index.TypeSymlink || len(rest) == 0 && !last {
			done = at
			continue
		}
		if links++; links > 255 {
			return "", fmt.Errorf("/%s: %w", clean(p), syscall.ELOOP)
		}
		if path.IsAbs(e.Link) {
			done = "."
		}
		rest = append(strings.Split(e.Link, "/"), rest...)
	}
	return done, nil
}

// below gives where a path leads that an archive names in the directory root,
// taken for the root of all; its last element is not followed. A link that
// dangles leads nowhere.
func (d *dest) below(root, rel string) (string, error) {
	links := 0
	dir, err := d.follow(root, root, path.Dir(rel), &links)
	return path.Join(dir, path.Base(rel)), err
}

// follow goes from at, below root, along a path.
func (d *dest) follow(root, at, rel string, links *int) (string, error) {
	if path.IsAbs(rel) {
		at = root
	}
	for elem := range strings.SplitSeq(rel, "/") {
		switch elem {
		case "", ".":
			continue
		case "..":
			if at != root {
				at = path.Dir(at)
			}
			continue
		}
		next := path.Join(at, elem)
		e, ok := d.lookup(next)
		if !ok || e.Type != index.TypeSymlink {
			at = next
			continue
		}
		if *links++; *links > 255 {
			return "", fmt.Errorf("/%s: %w", next, syscall.ELOOP)
		}
		var err error
		if at, err = d.follow(root, at, e.Link, links); err != nil {
			return "", err
		}
		if _, ok := d.lookup(at); !ok && at != root {
			return "", fmt.Errorf("/%s: its link to %s leads nowhere", next, e.Link)
		}
	}
	return at, nil
}

// put makes a path something else. A directory and what it held go when the new
// thing is none.
func (d *dest) put(c tarball.Change) {
	c.MTime = d.clamp(c.MTime)
	old, ok := d.lookup(c.Path)
	if ok && old.Type == index.TypeDir && c.Type != index.TypeDir {
		d.drop(c.Path)
	}
	if !ok || c.Type != index.TypeDir || old.Type != index.TypeDir {
		d.touched[path.Dir(c.Path)] = true
	}
	if i, ok := d.at[c.Path]; ok {
		d.all[i] = c
	} else {
		d.at[c.Path] = len(d.all)
		d.all = append(d.all, c)
	}
	delete(d.group, c.Path)
}

// linkGroup names the files that one source has as hard links of each other.
type linkGroup struct{ source, file any }

// link puts a file that is a hard link of the others of its group.
func (d *dest) link(c tarball.Change, group any) {
	d.put(c)
	d.group[c.Path] = group
}

func (d *dest) drop(dir string) {
	d.bulks = slices.DeleteFunc(d.bulks, func(b *bulk) bool { return b.root == dir || within(b.root, dir) })
	for p := range d.at {
		if strings.HasPrefix(p, dir+"/") {
			delete(d.at, p)
		}
	}
	if n, ok := d.view.Lookup(dir); ok && n.Type == index.TypeDir {
		d.gone[dir] = true
	}
}

// vacant tells whether a path is free, or an empty directory.
func (d *dest) vacant(p string) bool {
	for _, b := range d.bulks {
		if b.root == p || within(b.root, p) || within(p, b.root) {
			return false
		}
	}
	for set := range d.at {
		if within(set, p) {
			return false
		}
	}
	e, ok := d.lookup(p)
	return !ok || e.Type == index.TypeDir && len(d.view.ReadDir(p)) == 0
}

// within tells whether a path is below a directory.
func within(p, dir string) bool {
	return p != dir && (dir == "." || strings.HasPrefix(p, dir) && p[len(dir)] == '/')
}

// spread sets the files of a bulk one by one, should a path that is asked for be below
// its root.
func (d *dest) spread(p string) {
	i := slices.IndexFunc(d.bulks, func(b *bulk) bool { return within(p, b.root) })
	if i < 0 {
		return
	}
	b := d.bulks[i]
	d.bulks = slices.Delete(d.bulks, i, i+1)
	b.spread()
}

// mkdirs makes a directory and the missing ones that lead to it. p is resolved.
func (d *dest) mkdirs(p string, like index.Entry) error {
	if p == "." {
		return nil
	}
	e, ok := d.lookup(p)
	if ok && e.Type == index.TypeSymlink {
		to, err := d.resolve(p, true)
		if err != nil || to == p {
			return err
		}
		return d.mkdirs(to, like)
	}
	if ok && e.Type != index.TypeDir {
		return fmt.Errorf("mkdir /%s: %w", p, syscall.ENOTDIR)
	}
	if ok {
		return nil
	}
	if err := d.mkdirs(path.Dir(p), like); err != nil {
		return err
	}
	like.Path, like.Type = p, index.TypeDir
	d.put(tarball.Change{Entry: like})
	return nil
}

// changes lists what was set, with the directories that lead there, as a layer
// wants it. The root is left out: its attributes are the image's. With an epoch
// a directory in which names changed is as old as that, as after a copy by the
// kernel; without one it keeps its time, so that the same files give the same
// layer tomorrow.
// It ends the dest: the list is the one that was filled.
func (d *dest) changes() changes {
	var up []tarball.Change
	have := map[string]bool{}
	var whiteouts []tarball.Change
	for dir := range d.gone {
		whiteouts = append(whiteouts, d.whiteouts(dir)...)
	}
	out := d.all[:0]
	for i, c := range d.all {
		if at, ok := d.at[c.Path]; !ok || at != i || c.Path == "." {
			continue
		}
		up = d.leading(c.Path, have, up)
		out = append(out, c)
	}
	out = append(append(out, up...), whiteouts...)
	slices.SortFunc(out, func(a, b tarball.Change) int { return index.Compare(a.Entry, b.Entry) })
	d.tie(out)
	for _, b := range d.bulks {
		b.spread = nil // lets go of the dest
	}
	return changes{out, sorted(d.bulks)}
}

// leading adds the directories that lead to a path, but for those that were set,
// that have been added, and the root.
func (d *dest) leading(p string, have map[string]bool, list []tarball.Change) []tarball.Change {
	for up := path.Dir(p); up != p && !have[up]; p, up = up, path.Dir(up) {
		have[up] = true
		if _, ok := d.at[up]; ok {
			continue
		}
		if n, ok := d.view.Lookup(up); ok && up != "." {
			e := n.Entry
			e.MTime = d.clamp(e.MTime)
			if d.epoch != nil && d.touched[up] {
				e.MTime = *d.epoch
			}
			list = append(list, tarball.Change{Entry: e})
		}
	}
	return list
}

// tie makes hard links of all files of a group but the first.
func (d *dest) tie(sorted []tarball.Change) {
	names := links{}
	for i := range sorted {
		if group, ok := d.group[sorted[i].Path]; ok {
			names.tie(&sorted[i], group)
		}
	}
}

// whiteouts hides what a directory held that went and came back.
func (d *dest) whiteouts(dir string) []tarball.Change {
	if c, ok := d.get(dir); !ok || c.Type != index.TypeDir {
		return nil
	}
	var out []tarball.Change
	for _, n := range d.view.ReadDir(dir) {
		if c, ok := d.get(n.Path); !ok || c.Type == index.TypeDir {
			out = append(out, tarball.Change{Entry: index.Entry{Path: n.Path, Type: index.TypeWhiteout}})
		}
	}
	return out
}
