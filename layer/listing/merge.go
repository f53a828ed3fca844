package listing

import (
	"maps"
	"slices"
	"strings"
)

// A merge puts one layer onto a tree. It changes the directories that it owns;
// others belong to earlier views and are copied first.
type merge struct {
	root  *node
	layer int
	dirs  map[string]*node // parent directories by the path they were found at
	loose []*dir           // directories with extra children
	spare []node
}

// WithLayer returns the view with one more layer on top, as if the layer had been
// extracted: whiteouts and opaque marks hide only the layers below, a directory over
// a directory keeps its children, symlinks in a parent path are followed, and
// missing parents are directories 0755 root:root.
func (v *View) WithLayer(x *Listing) *View {
	m := &merge{layer: v.depth, dirs: map[string]*node{}}
	m.root = m.own(v.root)
	var links []*Entry
	for i := range x.Entries {
		e := &x.Entries[i]
		switch e.Type {
		case TypeWhiteout:
			m.hide(e.Path)
		case TypeOpaque:
			m.hideInside(e.Path)
		case TypeHardlink:
			links = append(links, e)
		default:
			m.put(e)
		}
	}
	// A hard link may sort before its target.
	for _, e := range links {
		m.link(e)
	}
	for _, d := range m.loose {
		d.settle()
	}
	return &View{root: m.root, depth: v.depth + 1}
}

func (m *merge) put(e *Entry) {
	if e.Path == "." {
		if e.Type == TypeDir {
			m.root.entry, m.root.layer = e, m.layer
		}
		return
	}
	parent := m.parent(e.Path)
	if parent == nil {
		return
	}
	n := m.newNode()
	*n = node{name: Base(e.Path), entry: e, layer: m.layer}
	if e.Type == TypeDir {
		n.dir = &dir{owner: m}
		if old := parent.dir.find(n.name); old != nil && old.dir != nil {
			n.dir = m.own(old).dir
		}
	}
	m.set(parent.dir, n)
}

// link adds a hard link with its target's attributes. The target is usually in the
// same layer; some old images have it in a layer below.
func (m *merge) link(e *Entry) {
	w := walk{nodes: []*node{m.root}}
	if err := w.follow(Dir(e.Link), true); err != nil {
		return
	}
	w.step(Base(e.Link))
	target := w.last()
	if target == nil || target.dir != nil {
		return
	}
	parent := m.parent(e.Path)
	if parent == nil {
		return
	}
	merged := *target.entry
	merged.Path, merged.Type, merged.Link = e.Path, TypeHardlink, w.path()
	if target.entry.Type != TypeFile && target.entry.Type != TypeHardlink {
		merged.Type, merged.Link = target.entry.Type, target.entry.Link
	}
	n := m.newNode()
	*n = node{name: Base(e.Path), entry: &merged, layer: target.layer, treePath: target.treePath}
	if n.treePath == "" {
		n.treePath = w.path()
	}
	m.set(parent.dir, n)
}

// hide removes path if it comes from the layers below.
func (m *merge) hide(path string) {
	if path == "." || !m.exists(path) {
		return
	}
	parent := m.parent(path)
	if parent == nil {
		return
	}
	name := Base(path)
	old := parent.dir.find(name)
	if old == nil {
		return
	}
	if old.dir != nil && old.dir.owner == m && m.clearBelow(old.dir) {
		return
	}
	if old.layer != m.layer {
		m.remove(parent.dir, name)
	}
}

// hideInside removes the contents of the directory at path that come from the layers
// below.
func (m *merge) hideInside(path string) {
	w := walk{nodes: []*node{m.root}}
	if err := w.follow(path, true); err != nil || w.missing() || w.last().dir == nil {
		return
	}
	if n := m.dirAt(path); n != nil {
		m.clearBelow(n.dir)
	}
}

// clearBelow removes entries of other layers from d, which m owns. It reports whether any
// entries are left.
func (m *merge) clearBelow(d *dir) bool {
	d.settle()
	m.forget()
	d.kids = slices.DeleteFunc(d.kids, func(kid *node) bool {
		if kid.dir != nil && kid.dir.owner == m && m.clearBelow(kid.dir) {
			return false
		}
		return kid.layer != m.layer
	})
	return len(d.kids) > 0
}

// exists reports whether path exists, without copying directories.
func (m *merge) exists(path string) bool {
	w := walk{nodes: []*node{m.root}}
	if err := w.follow(Dir(path), true); err != nil {
		return false
	}
	w.step(Base(path))
	return !w.missing()
}

func (m *merge) parent(path string) *node { return m.dirAt(Dir(path)) }

// dirAt returns the directory at path, owned by m. It follows symlinks and makes
// missing directories. It returns nil if the path cannot be resolved.
func (m *merge) dirAt(path string) *node {
	if path == "." {
		return m.root
	}
	if n := m.dirs[path]; n != nil {
		return n
	}
	w := walk{nodes: []*node{m.root}}
	if err := w.follow(path, true); err != nil {
		return nil
	}
	n := m.root
	for i, name := range w.names {
		kid := w.nodes[i+1]
		switch {
		case kid == nil || kid.dir == nil:
			kid = impliedDir(strings.Join(w.names[:i+1], "/"))
			kid.name, kid.dir.owner = name, m
			m.set(n.dir, kid)
		case kid.dir.owner != m:
			kid = m.own(kid)
			m.set(n.dir, kid)
		}
		n = kid
	}
	m.dirs[path] = n
	return n
}

// own returns n with a directory that m owns.
func (m *merge) own(n *node) *node {
	if n.dir.owner == m {
		return n
	}
	c := m.newNode()
	*c = *n
	c.dir = &dir{kids: slices.Clone(n.dir.kids), owner: m}
	return c
}

// set puts n into d. It appends names that come in order and puts others into a map,
// so that the cost is that of sorting at most.
func (m *merge) set(d *dir, n *node) {
	if len(d.extra) == 0 && (len(d.kids) == 0 || d.kids[len(d.kids)-1].name < n.name) {
		d.kids = append(d.kids, n)
		return
	}
	old := d.find(n.name)
	if old != nil && (old.isSymlink() || old.dir != nil && n.dir == nil) {
		m.forget()
	}
	if _, ok := d.extra[n.name]; ok || old == nil {
		m.override(d, n.name, n)
		return
	}
	i, _ := d.position(n.name)
	d.kids[i] = n
}

func (m *merge) remove(d *dir, name string) {
	if old := d.find(name); old != nil && (old.isSymlink() || old.dir != nil) {
		m.forget()
	}
	m.override(d, name, nil)
}

func (m *merge) override(d *dir, name string, n *node) {
	if d.extra == nil {
		d.extra = map[string]*node{}
		m.loose = append(m.loose, d)
	}
	d.extra[name] = n
}

// forget drops the parents found so far, after a change of a directory or symlink on
// their way.
func (m *merge) forget() {
	if len(m.dirs) > 0 {
		m.dirs = map[string]*node{}
	}
}

// settle moves the children in extra to their sorted positions.
func (d *dir) settle() {
	if len(d.extra) == 0 {
		d.extra = nil
		return
	}
	names := slices.Sorted(maps.Keys(d.extra))
	out := make([]*node, 0, len(d.kids)+len(names))
	kids := d.kids
	for _, name := range names {
		for len(kids) > 0 && kids[0].name < name {
			out, kids = append(out, kids[0]), kids[1:]
		}
		if len(kids) > 0 && kids[0].name == name {
			kids = kids[1:]
		}
		if n := d.extra[name]; n != nil {
			out = append(out, n)
		}
	}
	d.kids, d.extra = append(out, kids...), nil
}

// newNode returns a node from a block, to save allocations for large layers.
func (m *merge) newNode() *node {
	if len(m.spare) == 0 {
		m.spare = make([]node, 64)
	}
	n := &m.spare[0]
	m.spare = m.spare[1:]
	return n
}
