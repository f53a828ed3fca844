package index

// View is the merged tree of a chain of layers.
type View struct{ depth int }

// Node is a path in a View.
type Node struct {
	Entry
	Layer    int    // ordinal of the layer that holds it, 0 at the bottom; -1 when implied
	TreePath string // where its data is inside that layer's tree
}

// Empty is the view of no layers: only ".", 0755 root:root.
func Empty() *View { return &View{} }

// With returns the view with one more layer on top.
func (v *View) With(x *Index) *View { return v }

// Depth is the number of layers.
func (v *View) Depth() int { return v.depth }

// Lookup finds path, taken literally: no symlink is followed.
func (v *View) Lookup(path string) (Node, bool) { return Node{}, false }

// Resolve follows symlinks inside the root.
func (v *View) Resolve(path string, followLast bool) (resolved string, n Node, ok bool, err error) {
	return "", Node{}, false, nil
}

// ReadDir returns the children of a resolved directory, sorted.
func (v *View) ReadDir(path string) []Node { return nil }

// Walk calls f for path and all below, bytewise by path.
func (v *View) Walk(path string, f func(Node) error) error { return nil }

// ReadFile returns the bytes of etc/passwd or etc/group.
func (v *View) ReadFile(path string) ([]byte, bool) { return nil, false }
