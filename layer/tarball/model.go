package tarball

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/cairn-build/cairn/layer/listing"
)

var errTooMany = errors.New("too many entries, or too long paths")

// A model is the tree that a layer's entries make of an empty directory. Its nodes
// have resolved paths: all parents of a node are directories.
type model struct {
	nodes map[string]*node
	root  *node
	below *listing.View // the layers below; may be nil
	// mkdir is called for each directory that is made without an entry, with the
	// kind of the path before.
	mkdir func(n *node, was kind) error

	room  int // remaining number of nodes
	space int // remaining bytes of paths
	steps int // remaining steps of path resolution
}

// maxSteps bounds the time that a hostile layer can take: a few bytes can make long
// paths through many symlinks. Limits bounds the memory.
const maxSteps = 50_000_000

// A node is one path of a model: a directory, another file, or only a whiteout.
type node struct {
	path     string
	parent   *node
	kids     []*node
	inode    *listing.Entry // nil for a whiteout only; shared by hard links
	shared   bool           // another path has or had the same inode
	dir      bool
	implied  bool // a directory without an entry of its own
	merged   bool // a directory that shows the contents of the layers below
	whiteout bool
	opaque   bool
}

// kind is the kind of a node on disk.
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

func newModel(below *listing.View, l Limits) *model {
	root := &node{path: ".", dir: true, implied: true, inode: impliedEntry("."), merged: below != nil}
	if below != nil {
		if n, ok := below.Lookup("."); ok {
			root.inode = &n.Entry
		}
	}
	root.parent = root
	return &model{
		nodes: map[string]*node{".": root}, root: root, below: below,
		room: l.MaxEntries, space: l.maxMeta, steps: maxSteps,
	}
}

func impliedEntry(path string) *listing.Entry {
	return &listing.Entry{Path: path, Type: listing.TypeDir, Mode: 0o755}
}

// put sets a path. It returns its node and the kind of the path before.
func (t *model) put(path string, e *listing.Entry) (*node, kind, error) {
	if path == "." {
		t.root.inode, t.root.implied = e, false
		return t.root, kindDir, nil
	}
	n, err := t.at(path)
	if err != nil {
		return nil, 0, err
	}
	was := n.kind()
	if e.Type == listing.TypeDir {
		t.becomeDir(n)
		n.inode, n.implied = e, false
		return n, was, nil
	}
	t.reset(n)
	n.inode = e
	return n, was, nil
}

// link makes path a hard link to target.
func (t *model) link(path, target string) (n, to *node, was kind, err error) {
	parent, err := t.dir(listing.Dir(target), true)
	if err != nil {
		return nil, nil, 0, err
	}
	to = t.nodes[listing.Join(parent.path, listing.Base(target))]
	if to == nil || to.dir || to.inode == nil {
		return nil, nil, 0, fmt.Errorf("hard link to %q, which is not a file in this layer", target)
	}
	n, err = t.at(path)
	if err != nil {
		return nil, nil, 0, err
	}
	if n.dir && strings.HasPrefix(to.path, n.path+"/") {
		return nil, nil, 0, fmt.Errorf("hard link to %q, which is in the directory that it would replace", target)
	}
	was = n.kind()
	if n.inode == to.inode {
		return n, n, was, nil
	}
	t.reset(n)
	to.shared = true
	n.inode, n.shared = to.inode, true
	return n, to, was, nil
}

// hide sets a whiteout or marks a directory as opaque. The node is nil if there is
// nothing to hide in the layers below.
func (t *model) hide(path string, opaque bool) (*node, kind, error) {
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

// covers reports whether the layers below have something at path. A whiteout of
// nothing would be visible in a directory that only one tree has.
func (t *model) covers(path string) bool {
	parent, err := t.dir(listing.Dir(path), false)
	if err != nil {
		return true // the caller gets the same error again
	}
	return parent != nil && t.beneath(parent, listing.Join(parent.path, listing.Base(path))) != nil
}

// beneath returns the node of the layers below at path, a child of parent.
func (t *model) beneath(parent *node, path string) *listing.Node {
	if t.below == nil || !parent.merged {
		return nil
	}
	if n, ok := t.below.Lookup(path); ok {
		return &n
	}
	return nil
}

// at returns the node at the resolved path, and makes it if it is missing.
func (t *model) at(path string) (*node, error) {
	parent, err := t.dir(listing.Dir(path), true)
	if err != nil {
		return nil, err
	}
	full := path
	if parent.path != listing.Dir(path) {
		full = listing.Join(parent.path, listing.Base(path))
	}
	return t.child(parent, full)
}

func (t *model) child(parent *node, full string) (*node, error) {
	if n := t.nodes[full]; n != nil {
		return n, nil
	}
	if len(full) > listing.MaxPath || len(listing.Base(full)) > listing.MaxName {
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

// becomeDir makes n a directory. If it replaces another file it hides the layers
// below, as that file did.
func (t *model) becomeDir(n *node) {
	if n.dir {
		return
	}
	switch n.kind() {
	case kindOther:
		n.whiteout = true
	case kindNone:
		if under := t.beneath(n.parent, n.path); under != nil && under.Type == listing.TypeDir {
			n.merged = true
		}
	}
	n.dir = true
}

// reset removes everything of n except for its whiteout.
func (t *model) reset(n *node) {
	if n.dir {
		t.drop(n)
		n.whiteout = n.whiteout || n.opaque
	}
	n.inode, n.shared = nil, false
	n.dir, n.implied, n.merged, n.opaque = false, false, false, false
}

// drop removes everything inside n.
func (t *model) drop(n *node) {
	kids := n.kids
	n.kids = nil
	for len(kids) > 0 {
		k := kids[len(kids)-1]
		kids = append(kids[:len(kids)-1], k.kids...)
		delete(t.nodes, k.path)
	}
}

// dir returns the directory at path, following symlinks of the layer and of those
// below inside the root. Missing directories are made if force is set; otherwise the
// node is nil.
func (t *model) dir(path string, force bool) (*node, error) {
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
		full := listing.Join(w.at.path, name)
		n, err := t.imply(w.at, full, impliedEntry(full))
		if err != nil {
			return nil, err
		}
		w.at = n
	}
	return w.at, nil
}

// A finder follows a path through a model. at is the last existing directory,
// missing the names of the path below it; as nothing of them exists, ".." takes the
// last one off.
type finder struct {
	t       *model
	at      *node
	missing []string
}

func (w *finder) follow(path string) error {
	err := listing.Follow(w, path, true)
	if err == syscall.ELOOP {
		return fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// Root implements [listing.Walker].
func (w *finder) Root() { w.at = w.t.root }

// Step implements [listing.Walker].
func (w *finder) Step(name string, _ bool) (target string, symlink bool, err error) {
	if w.t.steps--; w.t.steps < 0 {
		return "", false, errTooMany
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
		target, err = w.enter(name)
	}
	return target, target != "", err
}

func (w *finder) enter(name string) (symlink string, err error) {
	full := listing.Join(w.at.path, name)
	n := w.t.nodes[full]
	switch {
	case n != nil && n.dir:
		w.at = n
		return "", nil
	case n != nil && n.inode != nil && n.inode.Type == listing.TypeSymlink:
		return n.inode.Link, nil
	case n != nil && n.inode != nil:
		return "", fmt.Errorf("%s: %w", full, syscall.ENOTDIR)
	}
	var under *listing.Node
	if n == nil {
		under = w.t.beneath(w.at, full)
	}
	switch {
	case under != nil && under.Type == listing.TypeSymlink:
		return under.Link, nil
	case under != nil && under.Type == listing.TypeDir:
		w.at, err = w.t.imply(w.at, full, &under.Entry)
		return "", err
	}
	w.missing = append(w.missing, name)
	return "", nil
}

func (t *model) imply(at *node, full string, entry *listing.Entry) (*node, error) {
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

// listing returns the entries of the layer, sorted. The first name of a file has its
// entry; its other names are hard links to that.
func (t *model) listing() *listing.Listing {
	x := &listing.Listing{Entries: make([]listing.Entry, 0, len(t.nodes))}
	nodes := make([]*node, 0, len(t.nodes))
	for _, n := range t.nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *node) int { return listing.ComparePaths(a.path, 0, b.path, 0) })
	first := map[*listing.Entry]string{}
	for _, n := range nodes {
		if n.whiteout {
			x.Entries = append(x.Entries, listing.Entry{Path: n.path, Type: listing.TypeWhiteout})
		}
		if n.inode != nil && !n.implied {
			x.Entries = append(x.Entries, n.entry(first))
		}
		if n.opaque {
			x.Entries = append(x.Entries, listing.Entry{Path: n.path, Type: listing.TypeOpaque})
		}
	}
	return x
}

func (n *node) entry(first map[*listing.Entry]string) listing.Entry {
	e := *n.inode
	e.Path = n.path
	if !listing.CarriesContent(n.path) {
		e.Content = nil
	}
	if !n.shared || e.Type != listing.TypeFile {
		return e
	}
	target, ok := first[n.inode]
	if !ok {
		first[n.inode] = n.path
		return e
	}
	e.Type, e.Link = listing.TypeHardlink, target
	canonical(&e)
	return e
}
