package listing

import (
	"io/fs"
	"slices"
	"strings"
)

// View is the merged tree of a stack of layers. It is immutable and safe for
// concurrent use. WithLayer copies only the directories that the layer changes.
type View struct {
	root  *node
	depth int
}

// Node is a path in a View. A hard link has its target's attributes.
type Node struct {
	Entry
	Layer    int    // number of the layer that has it, 0 at the bottom; -1 if implied
	TreePath string // path of its data in the tree of that layer; for a hard link, its target's
}

const implied = -1

// A node is one path of a merged tree. It does not change after the WithLayer that
// made it.
type node struct {
	name     string
	entry    *Entry
	layer    int
	treePath string // "" if it is the path of the node
	dir      *dir   // nil unless a directory
}

// dir holds the children of a directory, sorted by name. During the WithLayer that
// owns the directory, extra overrides them: it has the children that came out of
// order, and nil for removed ones.
type dir struct {
	kids  []*node
	extra map[string]*node
	owner *merge
}

func (d *dir) find(name string) *node {
	if n, ok := d.extra[name]; ok {
		return n
	}
	if i, ok := d.position(name); ok {
		return d.kids[i]
	}
	return nil
}

func (d *dir) position(name string) (int, bool) {
	return slices.BinarySearchFunc(d.kids, name, func(n *node, name string) int {
		return strings.Compare(n.name, name)
	})
}

func (n *node) isSymlink() bool { return n.entry.Type == TypeSymlink }

// at returns n as a Node at path.
func (n *node) at(path string) Node {
	out := Node{Entry: *n.entry, Layer: n.layer, TreePath: n.treePath}
	out.Path = path
	if out.TreePath == "" {
		out.TreePath = path
	}
	return out
}

// Empty returns the view of no layers, which has the root directory only, 0755
// root:root.
func Empty() *View {
	return &View{root: impliedDir(".")}
}

func impliedDir(name string) *node {
	return &node{name: name, entry: &Entry{Path: name, Type: TypeDir, Mode: 0o755}, layer: implied, dir: &dir{}}
}

// Depth returns the number of layers.
func (v *View) Depth() int { return v.depth }

// Lookup returns the node at path without following symlinks.
func (v *View) Lookup(path string) (Node, bool) {
	n := v.find(path)
	if n == nil {
		return Node{}, false
	}
	return n.at(path), true
}

func (v *View) find(path string) *node {
	n := v.root
	for rest := path; rest != "" && rest != "."; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if n.dir == nil {
			return nil
		}
		if n = n.dir.find(name); n == nil {
			return nil
		}
	}
	return n
}

// Resolve returns the node at path as the kernel would find it inside the root: it
// follows symlinks, absolute ones from the root, and ".." stops there. A symlink in
// the last element is followed only if followLast is set. If the path does not
// exist, ok is false, and resolved is the path with its existing part resolved and
// the rest as given. The error is a loop of symlinks.
func (v *View) Resolve(path string, followLast bool) (resolved string, n Node, ok bool, err error) {
	w := walk{nodes: []*node{v.root}}
	if err := w.follow(path, followLast); err != nil {
		return "", Node{}, false, &fs.PathError{Op: "resolve", Path: path, Err: err}
	}
	resolved = w.path()
	if w.missing() {
		return resolved, Node{}, false, nil
	}
	return resolved, w.last().at(resolved), true, nil
}

// A walk follows a path from the root. For missing paths nodes has nil.
type walk struct {
	nodes []*node // the root and the nodes entered below it
	names []string
}

func (w *walk) last() *node   { return w.nodes[len(w.nodes)-1] }
func (w *walk) missing() bool { return w.last() == nil }

func (w *walk) path() string {
	if len(w.names) == 0 {
		return "."
	}
	return strings.Join(w.names, "/")
}

func (w *walk) follow(path string, followLast bool) error { return Follow(w, path, followLast) }

// Root implements [Walker].
func (w *walk) Root() { w.nodes, w.names = w.nodes[:1], w.names[:0] }

// Step implements [Walker].
func (w *walk) Step(name string, follow bool) (target string, symlink bool, err error) {
	switch name {
	case "", ".":
		return "", false, nil
	case "..":
		if len(w.names) > 0 {
			w.nodes, w.names = w.nodes[:len(w.nodes)-1], w.names[:len(w.names)-1]
		}
		return "", false, nil
	}
	var child *node
	if n := w.last(); n != nil && n.dir != nil {
		child = n.dir.find(name)
	}
	if follow && child != nil && child.isSymlink() {
		return child.entry.Link, true, nil
	}
	w.nodes, w.names = append(w.nodes, child), append(w.names, name)
	return "", false, nil
}

// step moves to an element without following it.
func (w *walk) step(name string) { _, _, _ = w.Step(name, false) }

// ReadDir returns the children of a resolved directory, sorted by name. It returns
// nil if the directory does not exist.
func (v *View) ReadDir(path string) []Node {
	n := v.find(path)
	if n == nil || n.dir == nil {
		return nil
	}
	nodes := make([]Node, 0, len(n.dir.kids))
	for _, kid := range n.dir.kids {
		nodes = append(nodes, kid.at(Join(path, kid.name)))
	}
	return nodes
}

// Walk calls f for a resolved path and everything below it, bytewise by path. It
// stops at f's first error and returns it. fs.SkipAll stops without an error;
// fs.SkipDir skips the contents of the directory that f was called for.
func (v *View) Walk(path string, f func(Node) error) error {
	n := v.find(path)
	if n == nil {
		return nil
	}
	err := f(n.at(path))
	if err == nil {
		err = walkKids(n, path, f)
	}
	if err == fs.SkipDir || err == fs.SkipAll {
		return nil
	}
	return err
}

// walkKids visits everything below n. Order by path is not order by name: "a-b"
// comes after "a" but before "a/b". So the contents of a directory wait until no
// sibling can come before them.
func walkKids(n *node, path string, f func(Node) error) error {
	if n.dir == nil {
		return nil
	}
	var waiting []*node
	visit := func(before string) error {
		for len(waiting) > 0 {
			last := waiting[len(waiting)-1]
			if before != "" && last.name+"/" > before {
				return nil
			}
			waiting = waiting[:len(waiting)-1]
			if err := walkKids(last, Join(path, last.name), f); err != nil {
				return err
			}
		}
		return nil
	}
	for _, kid := range n.dir.kids {
		if err := visit(kid.name); err != nil {
			return err
		}
		err := f(kid.at(Join(path, kid.name)))
		if err != nil && err != fs.SkipDir {
			return err
		}
		if err == nil && kid.dir != nil && len(kid.dir.kids) > 0 {
			waiting = append(waiting, kid)
		}
	}
	return visit("")
}

// ReadFile returns the contents of etc/passwd or etc/group, following symlinks.
func (v *View) ReadFile(path string) ([]byte, bool) {
	w := walk{nodes: []*node{v.root}}
	if err := w.follow(path, true); err != nil || w.missing() {
		return nil, false
	}
	e := w.last().entry
	if e.Type != TypeFile && e.Type != TypeHardlink {
		return nil, false
	}
	if e.Size == 0 || int64(len(e.Content)) == e.Size {
		return e.Content, true
	}
	return nil, false
}
