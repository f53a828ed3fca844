package index

import (
	"io/fs"
	"slices"
	"strings"
	"syscall"
)

// View is the merged tree of a chain of layers. It is immutable and safe for
// concurrent use; With copies only the directories that a layer touches.
type View struct {
	root  *node
	depth int
}

// Node is a path in a View. A hard link has its target's attributes.
type Node struct {
	Entry
	Layer    int    // ordinal of the layer that holds it, 0 at the bottom; -1 when implied
	TreePath string // where its data is in that layer's tree: a hard link's is its target's
}

const (
	implied     = -1
	maxSymlinks = 255
)

// A node is one path of a merged tree. Once its With is over it never changes.
type node struct {
	name     string
	entry    *Entry
	layer    int
	treePath string // "" when it is the node's own path
	dir      *dir   // nil unless a directory
}

// dir holds a directory's children, sorted by name. While a With that owns the
// directory is under way, extra overrides them: children that came out of order,
// and nil for those that are gone.
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

// at returns n as seen from outside, found at path.
func (n *node) at(path string) Node {
	out := Node{Entry: *n.entry, Layer: n.layer, TreePath: n.treePath}
	out.Path = path
	if out.TreePath == "" {
		out.TreePath = path
	}
	return out
}

// Empty is the view of no layers: only ".", 0755 root:root.
func Empty() *View {
	return &View{root: impliedDir(".")}
}

func impliedDir(name string) *node {
	return &node{name: name, entry: &Entry{Path: name, Type: TypeDir, Mode: 0o755}, layer: implied, dir: &dir{}}
}

// Depth is the number of layers.
func (v *View) Depth() int { return v.depth }

// Lookup finds path, taken literally: no symlink in it is followed.
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

// Resolve finds path as the kernel would inside the root: symlinks are
// followed, absolute ones from the root, and ".." stops there; the last
// element's only if followLast is set. When nothing is there, ok is false and
// resolved is where it would be: what exists of the path is resolved, the rest
// taken as it is. The error is a loop of symlinks.
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

// A walk follows a path from the root; nodes has nil for what is missing.
type walk struct {
	nodes []*node // the root and what has been entered below it
	names []string
	links int
}

func (w *walk) last() *node   { return w.nodes[len(w.nodes)-1] }
func (w *walk) missing() bool { return w.last() == nil }

func (w *walk) path() string {
	if len(w.names) == 0 {
		return "."
	}
	return strings.Join(w.names, "/")
}

func (w *walk) follow(path string, followLast bool) error {
	todo := []string{path}
	for len(todo) > 0 {
		name, rest, more := strings.Cut(todo[len(todo)-1], "/")
		if more {
			todo[len(todo)-1] = rest
		} else {
			todo = todo[:len(todo)-1]
		}
		w.step(name)
		n := w.last()
		if n == nil || !n.isSymlink() || !followLast && onlySlashes(todo) {
			continue
		}
		if w.links++; w.links > maxSymlinks {
			return syscall.ELOOP
		}
		if strings.HasPrefix(n.entry.Link, "/") {
			w.nodes, w.names = w.nodes[:1], w.names[:0]
		} else {
			w.step("..")
		}
		todo = append(todo, n.entry.Link)
	}
	return nil
}

// onlySlashes says that no element is left. Trailing slashes do not count:
// what they mean is for the caller to say.
func onlySlashes(todo []string) bool {
	for _, s := range todo {
		if strings.Trim(s, "/") != "" {
			return false
		}
	}
	return true
}

func (w *walk) step(name string) {
	switch name {
	case "", ".":
		return
	case "..":
		if len(w.names) > 0 {
			w.nodes, w.names = w.nodes[:len(w.nodes)-1], w.names[:len(w.names)-1]
		}
		return
	}
	var child *node
	if n := w.last(); n != nil && n.dir != nil {
		child = n.dir.find(name)
	}
	w.nodes, w.names = append(w.nodes, child), append(w.names, name)
}

// ReadDir returns the children of a resolved directory, sorted; nil when there
// is no such directory.
func (v *View) ReadDir(path string) []Node {
	n := v.find(path)
	if n == nil || n.dir == nil {
		return nil
	}
	nodes := make([]Node, 0, len(n.dir.kids))
	for _, kid := range n.dir.kids {
		nodes = append(nodes, kid.at(join(path, kid.name)))
	}
	return nodes
}

// Walk calls f for a resolved path and then for all that is below it, bytewise
// by path. It returns f's first error; fs.SkipAll ends the walk without one,
// and fs.SkipDir leaves out what is below the node that f was called for.
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

// walkKids visits what is below n. Order by path is not order by name: "a-b"
// comes after "a" but before "a/b". So what is below a directory waits until
// no sibling can come before it.
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
			if err := walkKids(last, join(path, last.name), f); err != nil {
				return err
			}
		}
		return nil
	}
	for _, kid := range n.dir.kids {
		if err := visit(kid.name); err != nil {
			return err
		}
		err := f(kid.at(join(path, kid.name)))
		if err != nil && err != fs.SkipDir {
			return err
		}
		if err == nil && kid.dir != nil && len(kid.dir.kids) > 0 {
			waiting = append(waiting, kid)
		}
	}
	return visit("")
}

func join(dir, name string) string {
	if dir == "." || dir == "" {
		return name
	}
	return dir + "/" + name
}

// ReadFile returns the bytes of a file that carries them, following symlinks:
// etc/passwd and etc/group.
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
