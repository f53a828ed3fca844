package filecopy

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/layer/tarball"
)

// destination is a tree that a step changes, known by the listing of the tree below
// and the changes so far.
type destination struct {
	Tree
	now     time.Time        // of directories in which names are added
	epoch   *int64           // no time is later
	list    []tarball.Change // the changes; an element counts if index refers to it
	index   map[string]int   // path -> its index in list
	group   map[string]any   // files of the same group are hard links to each other
	gone    map[string]bool  // directories of view that were replaced by something else
	touched map[string]bool  // directories in which names were added or removed
	bulks   []*bulk          // files below directories of list
}

func newDestination(below Tree, epoch *int64) *destination {
	return &destination{Tree: below, now: time.Now(), epoch: epoch, index: map[string]int{}, group: map[string]any{}, gone: map[string]bool{}, touched: map[string]bool{}}
}

// grow makes room for n more changes: while append grows a list, there are two copies
// of it.
func (d *destination) grow(n int) {
	d.list = slices.Grow(d.list, n)
	if len(d.index) == 0 {
		d.index = make(map[string]int, n)
	}
}

func (d *destination) clamp(mtime int64) int64 { return clamp(d.epoch, mtime) }

// clamp returns the earlier of a time and an epoch, which may be nil.
func clamp(epoch *int64, mtime int64) int64 {
	if epoch != nil {
		return min(mtime, *epoch)
	}
	return mtime
}

// at returns a function that returns a time.
func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// timeAt returns a function that returns the exact mtime of a path of the tree as it is
// now. It is nil for a file that has the mtime of its source.
func (d *destination) timeAt(p string) func() time.Time {
	if c, ok := d.change(p); ok {
		return c.Time
	}
	if n, ok := d.View.Lookup(p); ok {
		return d.timeOf(n)
	}
	return nil
}

// change returns the change of a path, if there is one.
func (d *destination) change(p string) (tarball.Change, bool) {
	d.expandBulk(p)
	i, ok := d.index[p]
	if !ok {
		return tarball.Change{}, false
	}
	return d.list[i], true
}

// lookup finds a path in the tree as it is now. It does not follow symlinks.
func (d *destination) lookup(p string) (listing.Entry, bool) {
	if c, ok := d.change(p); ok {
		return c.Entry, true
	}
	if len(d.gone) > 0 {
		for up := path.Dir(p); up != "."; up = path.Dir(up) {
			if d.gone[up] {
				return listing.Entry{}, false
			}
		}
	}
	n, ok := d.View.Lookup(p)
	return n.Entry, ok
}

// set changes a path. A directory that is replaced by something else is removed with
// everything below it.
func (d *destination) set(c tarball.Change) {
	c.MTime = d.clamp(c.MTime)
	old, ok := d.lookup(c.Path)
	if ok && old.Type == listing.TypeDir && c.Type != listing.TypeDir {
		d.removeBelow(c.Path)
	}
	if !ok || c.Type != listing.TypeDir || old.Type != listing.TypeDir {
		d.touched[path.Dir(c.Path)] = true
	}
	if i, ok := d.index[c.Path]; ok {
		d.list[i] = c
	} else {
		d.index[c.Path] = len(d.list)
		d.list = append(d.list, c)
	}
	delete(d.group, c.Path)
}

// linkGroup identifies files that one source has as hard links to each other.
type linkGroup struct{ source, file any }

// setLink sets a file that is a hard link to the others of its group.
func (d *destination) setLink(c tarball.Change, group any) {
	d.set(c)
	d.group[c.Path] = group
}

func (d *destination) removeBelow(dir string) {
	d.bulks = slices.DeleteFunc(d.bulks, func(b *bulk) bool { return b.root == dir || within(b.root, dir) })
	for p := range d.index {
		if strings.HasPrefix(p, dir+"/") {
			delete(d.index, p)
		}
	}
	if n, ok := d.View.Lookup(dir); ok && n.Type == listing.TypeDir {
		d.gone[dir] = true
	}
}

// isFree reports whether a path does not exist or is an empty directory.
func (d *destination) isFree(p string) bool {
	for _, b := range d.bulks {
		if b.root == p || within(b.root, p) || within(p, b.root) {
			return false
		}
	}
	for set := range d.index {
		if within(set, p) {
			return false
		}
	}
	e, ok := d.lookup(p)
	return !ok || e.Type == listing.TypeDir && len(d.View.ReadDir(p)) == 0
}

// within reports whether a path is below a directory.
func within(p, dir string) bool {
	return p != dir && (dir == "." || strings.HasPrefix(p, dir) && p[len(dir)] == '/')
}

// expandBulk sets the files of a bulk one by one if p is below its root.
func (d *destination) expandBulk(p string) {
	i := slices.IndexFunc(d.bulks, func(b *bulk) bool { return within(p, b.root) })
	if i < 0 {
		return
	}
	b := d.bulks[i]
	d.bulks = slices.Delete(d.bulks, i, i+1)
	b.expand()
}

// mkdirs makes the directory p and its missing parents, with the given attributes. No
// parent of p is a symlink.
func (d *destination) mkdirs(p string, attrs listing.Entry) error {
	if p == "." {
		return nil
	}
	e, ok := d.lookup(p)
	if ok && e.Type == listing.TypeSymlink {
		to, err := d.resolve(p)
		if err != nil || to == p {
			return err
		}
		return d.mkdirs(to, attrs)
	}
	if ok && e.Type != listing.TypeDir {
		return fmt.Errorf("mkdir /%s: %w: it is a file in the image", p, syscall.ENOTDIR)
	}
	if ok {
		return nil
	}
	if err := d.mkdirs(path.Dir(p), attrs); err != nil {
		return err
	}
	attrs.Path, attrs.Type = p, listing.TypeDir
	d.set(tarball.Change{Entry: attrs, Time: at(d.now)})
	return nil
}

// changes returns the changes and the directories that lead to them, in the order of a
// layer, and ends the destination, whose list it reuses. Paths that stay as they are below
// are left out, and so is the root: its attributes are those of the image. With an epoch,
// a directory in which names changed gets the epoch's time, as after a copy by the
// kernel. Without one it keeps its time, so that copying the same files always makes the
// same layer.
func (d *destination) changes() (*Changes, error) {
	same, err := d.unchanged()
	if err != nil {
		return nil, err
	}
	var parents []tarball.Change
	have := map[string]bool{}
	var whiteouts []tarball.Change
	for dir := range d.gone {
		whiteouts = append(whiteouts, d.whiteouts(dir)...)
	}
	for i, c := range d.list {
		if at, ok := d.index[c.Path]; ok && at == i && c.Path != "." && !same[c.Path] {
			parents = d.addParents(c.Path, same, have, parents)
		}
	}
	for _, b := range d.bulks {
		if b.from.files.n > 1 {
			parents = d.addParents(path.Join(b.root, "*"), same, have, parents)
		}
	}
	reduced := false
	out := d.list[:0]
	for i, c := range d.list {
		if at, ok := d.index[c.Path]; !ok || at != i || c.Path == "." {
			continue
		}
		if same[c.Path] {
			reduced = true
			continue
		}
		out = append(out, c)
	}
	out = append(append(out, parents...), whiteouts...)
	slices.SortFunc(out, func(a, b tarball.Change) int { return listing.Compare(a.Entry, b.Entry) })
	d.makeLinks(out)
	for _, b := range d.bulks {
		b.expand = nil // it refers to the destination
	}
	return &Changes{list: out, bulks: sorted(d.bulks), reduced: reduced}, nil
}

// addParents adds the parents of a path to list, except the root, those that were set,
// which are then not the same, and those that have been added.
func (d *destination) addParents(p string, same, have map[string]bool, list []tarball.Change) []tarball.Change {
	for up := path.Dir(p); up != p && !have[up]; p, up = up, path.Dir(up) {
		have[up] = true
		delete(same, up)
		if _, ok := d.index[up]; ok {
			continue
		}
		if n, ok := d.View.Lookup(up); ok && up != "." {
			c := tarball.Change{Entry: n.Entry, Time: d.timeOf(n)}
			c.MTime = d.clamp(c.MTime)
			if d.touched[up] {
				c.Time = at(d.now)
			}
			if d.epoch != nil && d.touched[up] {
				c.MTime = *d.epoch
			}
			list = append(list, c)
		}
	}
	return list
}

// makeLinks makes all files of a group except the first hard links to it.
func (d *destination) makeLinks(sorted []tarball.Change) {
	names := linkNames{}
	for i := range sorted {
		if group, ok := d.group[sorted[i].Path]; ok {
			names.apply(&sorted[i], group)
		}
	}
}

// whiteouts returns a whiteout for each old child of a directory that was removed and
// made again.
func (d *destination) whiteouts(dir string) []tarball.Change {
	if c, ok := d.change(dir); !ok || c.Type != listing.TypeDir {
		return nil
	}
	var out []tarball.Change
	for _, n := range d.View.ReadDir(dir) {
		if c, ok := d.change(n.Path); !ok || c.Type == listing.TypeDir {
			out = append(out, tarball.Change{Entry: listing.Entry{Path: n.Path, Type: listing.TypeWhiteout}})
		}
	}
	return out
}
