package tarball

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/cairn-build/cairn/layer/index"
)

const maxSymlinks = 255

var errTooMany = errors.New("too many entries, or too long paths")

// A tree models what a layer's entries make of an empty directory. Its nodes
// are found by their real paths: all that is above a node is a directory.
type tree struct {
	nodes map[string]*node
	root  *node
	below *index.View // what is beneath; may be nil
	// mkdir is told of each directory that comes to be without an entry, and
	// what was there before.
	mkdir func(n *node, was kind) error

	room  int // nodes that may still be made
	space int // bytes of paths that may still be kept
	steps int // that may still be taken
}

// maxSteps bounds the work that a hostile layer can ask for: long paths through
// many symlinks take few bytes. What they cost in memory is in Limits.
const maxSteps = 50_000_000

// A node is one path of a tree: a directory, or something with an inode, or
// only a whiteout.
type node struct {
	path     string
	parent   *node
	kids     []*node
	inode    *index.Entry // nil for a whiteout alone; shared by hard links
	shared   bool         // another path has, or had, the same inode
	dir      bool
	implied  bool // a directory without an entry of its own
	merged   bool // a directory that shows what is below
	whiteout bool
	opaque   bool
}

// kind is what a node was on disk.
type kind byte

const (
	kindNone kind = iota
	kindWhiteout
	kindDir
	kindOther
)

func (n *node) kind() kind {
	switch {
	case n == nil:
		return kindNone
	case n.dir:
		return kindDir
	case n.inode != nil:
		return kindOther
	case n.whiteout:
		return kindWhiteout
	}
	return kindNone
}

func newTree(below *index.View, l Limits) *tree {
	root := &node{path: ".", dir: true, implied: true, inode: impliedEntry("."), merged: below != nil}
	if below != nil {
		if n, ok := below.Lookup("."); ok {
			root.inode = &n.Entry
		}
	}
	root.parent = root
	return &tree{
		nodes: map[string]*node{".": root}, root: root, below: below,
		room: l.MaxEntries, space: l.maxMeta, steps: maxSteps,
	}
}

func impliedEntry(path string) *index.Entry {
	return &index.Entry{Path: path, Type: index.TypeDir, Mode: 0o755}
}

// put sets a path. It returns its node and what the path was before.
func (t *tree) put(path string, e *index.Entry) (*node, kind, error) {
	if path == "." {
		t.root.inode, t.root.implied = e, false
		return t.root, kindDir, nil
	}
	n, err := t.at(path)
	if err != nil {
		return nil, 0, err
	}
	was := n.kind()
	if e.Type == index.TypeDir {
		t.becomeDir(n)
		n.inode, n.implied = e, false
		return n, was, nil
	}
	t.clear(n)
	n.inode = e
	return n, was, nil
}

// link makes path another name of what is at target.
func (t *tree) link(path, target string) (n, to *node, was kind, err error) {
	parent, err := t.dir(dirOf(target), true)
	if err != nil {
		return nil, nil, 0, err
	}
	to = t.nodes[join(parent.path, base(target))]
	if to == nil || to.dir || to.inode == nil {
		return nil, nil, 0, fmt.Errorf("hard link to %q, which is not a file in this layer", target)
	}
	n, err = t.at(path)
	if err != nil {
		return nil, nil, 0, err
	}
	if n.dir && strings.HasPrefix(to.path, n.path+"/") {
		return nil, nil, 0, fmt.Errorf("hard link to %q, which is in the directory whose place it takes", target)
	}
	was = n.kind()
	if n.inode == to.inode {
		return n, n, was, nil
	}
	t.clear(n)
	to.shared = true
	n.inode, n.shared = to.inode, true
	return n, to, was, nil
}

// hide sets a whiteout, or marks a directory as opaque. The node is nil when
// it is known that there is nothing below to hide.
func (t *tree) hide(path string, opaque bool) (*node, kind, error) {
	if opaque {
		n, err := t.dir(path, t.below == nil)
		if n != nil {
			n.opaque, n.merged = true, n == t.root && n.merged
		}
		return n, kindDir, err
	}
	if t.below != nil && !t.covers(path) {
		return nil, 0, nil
	}
	n, err := t.at(path)
	if err != nil {
		return nil, 0, err
	}
	was := n.kind()
	n.whiteout, n.merged = true, false
	return n, was, nil
}

// covers says whether something is beneath path. A whiteout of nothing would
// do harm: in a directory that only one tree has, overlayfs lists it.
func (t *tree) covers(path string) bool {
	parent, err := t.dir(dirOf(path), false)
	if err != nil {
		return true // the error comes again
	}
	return parent != nil && t.beneath(parent, join(parent.path, base(path))) != nil
}

// beneath returns what the layers below show at path, a child of parent.
func (t *tree) beneath(parent *node, path string) *index.Node {
	if t.below == nil || !parent.merged {
		return nil
	}
	if n, ok := t.below.Lookup(path); ok {
		return &n
	}
	return nil
}

// at returns the node for path, a new one if there is none, in its real place.
func (t *tree) at(path string) (*node, error) {
	parent, err := t.dir(dirOf(path), true)
	if err != nil {
		return nil, err
	}
	full := path
	if parent.path != dirOf(path) {
		full = join(parent.path, base(path))
	}
	return t.child(parent, full)
}

func (t *tree) child(parent *node, full string) (*node, error) {
	if n := t.nodes[full]; n != nil {
		return n, nil
	}
	if len(full) > index.MaxPath || len(base(full)) > index.MaxName {
		return nil, fmt.Errorf("%.100s...: %w", full, syscall.ENAMETOOLONG)
	}
	t.room--
	t.space -= len(full)
	if t.room < 0 || t.space < 0 {
		return nil, errTooMany
	}
	n := &node{path: full, parent: parent}
	t.nodes[full] = n
	parent.kids = append(parent.kids, n)
	return n, nil
}

// becomeDir makes n a directory. One that takes the place of something else
// hides what is below: that was hidden already.
func (t *tree) becomeDir(n *node) {
	if n.dir {
		return
	}
	switch n.kind() {
	case kindOther:
		n.whiteout = true
	case kindNone:
		if under := t.beneath(n.parent, n.path); under != nil && under.Type == index.TypeDir {
			n.merged = true
		}
	}
	n.dir = true
}

// clear removes what n is, but for its whiteout.
func (t *tree) clear(n *node) {
	if n.dir {
		t.drop(n)
		n.whiteout = n.whiteout || n.opaque
	}
	n.inode, n.shared = nil, false
	n.dir, n.implied, n.merged, n.opaque = false, false, false, false
}

// drop forgets all that is inside n.
func (t *tree) drop(n *node) {
	kids := n.kids
	n.kids = nil
	for len(kids) > 0 {
		k := kids[len(kids)-1]
		kids = append(kids[:len(kids)-1], k.kids...)
		delete(t.nodes, k.path)
	}
}

// dir returns the directory that path leads to, following symlinks of the
// layer and of those below inside the root. What is missing is made; without
// force it is not, and the node is nil.
func (t *tree) dir(path string, force bool) (*node, error) {
	if n := t.nodes[path]; n != nil && n.dir {
		return n, nil
	}
	w := finder{t: t, at: t.root}
	if err := w.follow(path); err != nil {
		return nil, err
	}
	if len(w.missing) > 0 && !force {
		return nil, nil
	}
	for _, name := range w.missing {
		full := join(w.at.path, name)
		n, err := t.imply(w.at, full, impliedEntry(full))
		if err != nil {
			return nil, err
		}
		w.at = n
	}
	return w.at, nil
}

// A finder is on its way through a tree: at is the last directory that exists,
// missing what the path names below it. As nothing is known of what is
// missing, ".." takes the last name of it away.
type finder struct {
	t       *tree
	at      *node
	missing []string
}

func (w *finder) follow(path string) error {
	links := 0
	for todo := []string{path}; len(todo) > 0; {
		name, rest, more := strings.Cut(todo[len(todo)-1], "/")
		if more {
			todo[len(todo)-1] = rest
		} else {
			todo = todo[:len(todo)-1]
		}
		symlink, err := w.step(name)
		if err != nil {
			return err
		}
		if symlink == "" {
			continue
		}
		if links++; links > maxSymlinks {
			return fmt.Errorf("%s: %w", path, syscall.ELOOP)
		}
		if strings.HasPrefix(symlink, "/") {
			w.at = w.t.root
		}
		todo = append(todo, symlink)
	}
	return nil
}

// step goes on to name, or returns the symlink that is there instead.
func (w *finder) step(name string) (symlink string, err error) {
	if w.t.steps--; w.t.steps < 0 {
		return "", errTooMany
	}
	switch {
	case name == "" || name == ".":
	case name == ".." && len(w.missing) > 0:
		w.missing = w.missing[:len(w.missing)-1]
	case name == "..":
		w.at = w.at.parent
	case len(w.missing) > 0:
		w.missing = append(w.missing, name)
	default:
		return w.enter(name)
	}
	return "", nil
}

func (w *finder) enter(name string) (symlink string, err error) {
	full := join(w.at.path, name)
	n := w.t.nodes[full]
	switch {
	case n != nil && n.dir:
		w.at = n
		return "", nil
	case n != nil && n.inode != nil && n.inode.Type == index.TypeSymlink:
		return n.inode.Link, nil
	case n != nil && n.inode != nil:
		return "", fmt.Errorf("%s: %w", full, syscall.ENOTDIR)
	}
	var under *index.Node
	if n == nil {
		under = w.t.beneath(w.at, full)
	}
	switch {
	case under != nil && under.Type == index.TypeSymlink:
		return under.Link, nil
	case under != nil && under.Type == index.TypeDir:
		w.at, err = w.t.imply(w.at, full, &under.Entry)
		return "", err
	}
	w.missing = append(w.missing, name)
	return "", nil
}

func (t *tree) imply(at *node, full string, entry *index.Entry) (*node, error) {
	n, err := t.child(at, full)
	if err != nil {
		return nil, err
	}
	was := n.kind()
	t.becomeDir(n)
	n.inode, n.implied = entry, true
	if t.mkdir == nil {
		return n, nil
	}
	return n, t.mkdir(n, was)
}

// index returns the entries of the layer, sorted. Of the names of a file the
// first holds it, and the others are hard links to it.
func (t *tree) index() *index.Index {
	x := &index.Index{Entries: make([]index.Entry, 0, len(t.nodes))}
	nodes := make([]*node, 0, len(t.nodes))
	for _, n := range t.nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *node) int { return index.ComparePaths(a.path, 0, b.path, 0) })
	first := map[*index.Entry]string{}
	for _, n := range nodes {
		if n.whiteout {
			x.Entries = append(x.Entries, index.Entry{Path: n.path, Type: index.TypeWhiteout})
		}
		if n.inode != nil && !n.implied {
			x.Entries = append(x.Entries, n.entry(first))
		}
		if n.opaque {
			x.Entries = append(x.Entries, index.Entry{Path: n.path, Type: index.TypeOpaque})
		}
	}
	return x
}

func (n *node) entry(first map[*index.Entry]string) index.Entry {
	e := *n.inode
	e.Path = n.path
	if !index.CarriesContent(n.path) {
		e.Content = nil
	}
	if !n.shared || e.Type != index.TypeFile {
		return e
	}
	target, ok := first[n.inode]
	if !ok {
		first[n.inode] = n.path
		return e
	}
	e.Type, e.Link = index.TypeHardlink, target
	canonical(&e)
	return e
}
