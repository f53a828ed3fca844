package listing

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0})
	for _, x := range []*Listing{parse(f, "a/\na/b -> c\n-d"), sample()} {
		f.Add(x.Encode()[len(magic)+4:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := binary.LittleEndian.AppendUint32([]byte(magic), crc32.Checksum(body, castagnoli))
		x, err := Decode(append(b, body...))
		if err != nil {
			return
		}
		again, err := Decode(x.Encode())
		if err != nil {
			t.Fatalf("what was decoded can't be decoded again: %v", err)
		}
		if diff := cmp.Diff(x, again); diff != "" {
			t.Fatal(diff)
		}
		list(t, Empty().WithLayer(x))
	})
}

// FuzzView compares View with a model in a flat map of paths.
func FuzzView(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 0, 1, 2, 0, 255, 2, 0, 3})
	f.Add([]byte("usr/bin over symlinks, and whiteouts of them"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 400 {
			return
		}
		v, m := Empty(), model{".": {Entry: Entry{Path: ".", Type: TypeDir, Mode: 0o755}, Layer: -1, TreePath: "."}}
		for i, x := range layersFrom(data) {
			v = v.WithLayer(x)
			m.add(x, i)
			compare(t, v, m)
		}
	})
}

func compare(t *testing.T, v *View, m model) {
	t.Helper()
	var got, want []Node
	if err := v.Walk(".", func(n Node) error { got = append(got, n); return nil }); err != nil {
		t.Fatal(err)
	}
	for _, n := range m {
		want = append(want, n)
	}
	slices.SortFunc(want, func(a, b Node) int { return Compare(a.Entry, b.Entry) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("-model +view\n%s", diff)
	}
	for _, n := range want {
		if _, ok := v.Lookup(n.Path); !ok {
			t.Fatalf("%s is walked, but not found", n.Path)
		}
		if resolved, _, ok, _ := v.Resolve(n.Path, false); !ok || resolved != n.Path {
			t.Fatalf("%s resolves to %s", n.Path, resolved)
		}
	}
}

// layersFrom makes layers from bytes: three bytes an entry, 255 ends a layer.
func layersFrom(data []byte) []*Listing {
	paths := []string{"a", "b", "a/a", "a/b", "a-", "b/a", "b/b", "a/a/a", "a/a/b", "b/a/a", "a-/a", "."}
	targets := []string{"a", "b", "/a", "../b", "..", "a/b", "/b/../a", "."}
	types := []Type{TypeFile, TypeDir, TypeSymlink, TypeHardlink, TypeWhiteout, TypeOpaque, TypeDir, TypeFile}
	layers := []*Listing{{}}
	for len(data) >= 3 {
		x := layers[len(layers)-1]
		if data[0] == 255 {
			layers, data = append(layers, &Listing{}), data[1:]
			continue
		}
		e := Entry{Path: paths[int(data[0])%len(paths)], Type: types[int(data[1])%len(types)], Mode: uint32(data[2])}
		switch e.Type {
		case TypeSymlink:
			e.Link = targets[int(data[2])%len(targets)]
		case TypeHardlink:
			e.Link = paths[int(data[2])%(len(paths)-1)]
		}
		if e.validate() == nil {
			x.Entries = append(x.Entries, e)
		}
		data = data[3:]
	}
	for _, x := range layers {
		slices.SortStableFunc(x.Entries, Compare)
		x.Entries = slices.CompactFunc(x.Entries, func(a, b Entry) bool { return Compare(a, b) == 0 })
	}
	return layers
}

// A model maps each path to its node.
type model map[string]Node

func (m model) add(x *Listing, layer int) {
	touched := map[string]bool{} // by this layer
	for _, e := range x.Entries {
		switch e.Type {
		case TypeWhiteout:
			m.whiteout(e.Path, layer, touched)
		case TypeOpaque:
			m.opaque(e.Path, layer, touched)
		case TypeHardlink:
		default:
			m.put(Node{Entry: e, Layer: layer}, touched)
		}
	}
	for _, e := range x.Entries {
		if e.Type != TypeHardlink {
			continue
		}
		parent, ok := m.resolve(Dir(e.Link))
		target, found := m[Join(parent, Base(e.Link))]
		if !ok || !found || target.Type == TypeDir {
			continue
		}
		linked := target
		linked.Entry.Path = e.Path
		if target.Type == TypeFile || target.Type == TypeHardlink {
			linked.Type, linked.Link = TypeHardlink, target.Path
		}
		m.put(linked, touched)
	}
}

func (m model) put(n Node, touched map[string]bool) {
	if n.Path == "." {
		n.TreePath = "."
		m["."] = n
		return
	}
	parent, ok := m.resolve(Dir(n.Path))
	if !ok {
		return
	}
	m.mkdirs(parent, touched)
	n.Path = Join(parent, Base(n.Path))
	if n.TreePath == "" {
		n.TreePath = n.Path
	}
	if n.Type != TypeDir || m[n.Path].Type != TypeDir {
		m.drop(n.Path, func(string) bool { return true })
	}
	m[n.Path] = n
	touched[n.Path] = true
}

func (m model) mkdirs(path string, touched map[string]bool) {
	for i := 0; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		p := path[:i]
		if m[p].Type != TypeDir {
			m[p] = Node{Entry: Entry{Path: p, Type: TypeDir, Mode: 0o755}, Layer: -1, TreePath: p}
		}
		touched[p] = true
	}
}

// drop removes path and the paths below it for which gone returns true.
func (m model) drop(path string, gone func(string) bool) {
	for p := range m {
		if (p == path || strings.HasPrefix(p, path+"/")) && gone(p) {
			delete(m, p)
		}
	}
}

func (m model) whiteout(path string, layer int, touched map[string]bool) {
	parent, ok := m.resolve(Dir(path))
	if !ok || path == "." {
		return
	}
	full := Join(parent, Base(path))
	m.hideBelow(full, layer, touched)
	if m[full].Layer != layer && !m.hasKids(full) {
		delete(m, full)
	}
}

func (m model) opaque(path string, layer int, touched map[string]bool) {
	if full, ok := m.resolve(path); ok && m[full].Type == TypeDir {
		m.hideBelow(full, layer, touched)
	}
}

// hideBelow removes paths below path that other layers set. Directories that are not
// empty then stay.
func (m model) hideBelow(path string, layer int, touched map[string]bool) {
	var below []string
	for p := range m {
		if p != "." && p != path && (path == "." || strings.HasPrefix(p, path+"/")) {
			below = append(below, p)
		}
	}
	slices.Sort(below)
	slices.Reverse(below)
	for _, p := range below {
		if m[p].Layer != layer && !m.hasKids(p) {
			delete(m, p)
		}
	}
}

func (m model) hasKids(path string) bool {
	for p := range m {
		if strings.HasPrefix(p, path+"/") {
			return true
		}
	}
	return false
}

// resolve follows all symlinks of path and keeps the missing part as it is.
func (m model) resolve(path string) (string, bool) {
	at, todo, links := ".", path, 0
	for todo != "" {
		name, rest, _ := strings.Cut(todo, "/")
		todo = rest
		switch name {
		case "", ".":
			continue
		case "..":
			at = Dir(at)
			continue
		}
		n := m[Join(at, name)]
		if n.Type != TypeSymlink {
			at = Join(at, name)
			continue
		}
		if links++; links > MaxSymlinks {
			return "", false
		}
		if strings.HasPrefix(n.Link, "/") {
			at = "."
		}
		todo = n.Link + "/" + todo
	}
	return at, true
}
