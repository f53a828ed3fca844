package compose

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/cairn-build/cairn/builder/bake"
)

// places finds the lines of keys in the files of a project.
type places struct {
	files []*parsedFile // in the order of merging
	extra []*parsedFile // files that include and extends name
}

// parsedFile is a file with the nodes of its documents.
type parsedFile struct {
	name, shown string
	documents   []*yaml.Node // that parse; none if the first one does not
}

// newPlaces parses files. Included files are relative to dir.
func newPlaces(files []types.ConfigFile, dir string) *places {
	p, seen := &places{}, map[string]bool{}
	for _, f := range files {
		seen[f.Filename] = true
		p.files = append(p.files, parseFile(f.Filename, f.Content))
	}
	for _, s := range p.files {
		p.addExtra(s, dir, seen)
	}
	return p
}

func parseFile(name string, content []byte) *parsedFile {
	s := &parsedFile{name: name, shown: shownName(name)}
	for d := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var n yaml.Node
		if d.Decode(&n) != nil {
			return s
		}
		s.documents = append(s.documents, &n)
	}
}

// shownName returns the name of a file in messages: relative to the working directory
// if it is below it.
func shownName(name string) string {
	wd, err := os.Getwd()
	if err != nil || !filepath.IsAbs(name) {
		return name
	}
	if rel, err := filepath.Rel(wd, name); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return name
}

// addExtra parses the files that s includes, or that its services extend. A file that
// cannot be read is left out: the loader reports it.
func (p *places) addExtra(s *parsedFile, dir string, seen map[string]bool) {
	const most = 1000
	for _, n := range s.references() {
		name := n.Value
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		if seen[name] || len(p.extra) >= most {
			continue
		}
		seen[name] = true
		content, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		f := parseFile(name, content)
		p.extra = append(p.extra, f)
		p.addExtra(f, filepath.Dir(name), seen)
	}
}

// references returns the nodes with the names of the files that include and extends
// give.
func (s *parsedFile) references() (names []*yaml.Node) {
	add := func(n *yaml.Node) {
		if n = follow(n); n != nil && n.Kind == yaml.ScalarNode {
			names = append(names, n)
		}
	}
	for _, d := range s.documents {
		root := follow(d)
		if include := follow(child(root, "include")); include != nil && include.Kind == yaml.SequenceNode {
			for _, item := range include.Content {
				add(item)
				path := follow(child(follow(item), "path"))
				add(path)
				if path != nil && path.Kind == yaml.SequenceNode {
					for _, n := range path.Content {
						add(n)
					}
				}
			}
		}
		if services := follow(child(root, "services")); services != nil && services.Kind == yaml.MappingNode {
			for i := 1; i < len(services.Content); i += 2 {
				add(child(follow(child(follow(services.Content[i]), "extends")), "file"))
			}
		}
	}
	return names
}

// follow returns the node that an alias or a document stands for.
func follow(n *yaml.Node) *yaml.Node {
	for n != nil {
		switch {
		case n.Kind == yaml.AliasNode:
			n = n.Alias
		case n.Kind == yaml.DocumentNode && len(n.Content) > 0:
			n = n.Content[0]
		default:
			return n
		}
	}
	return nil
}

// child returns the value of a key of a mapping, or nil. It looks into merged mappings
// last.
func child(n *yaml.Node, key string) *yaml.Node {
	_, v := pair(n, key, 0)
	return v
}

// pair returns a key of a mapping and its value, or nil.
func pair(n *yaml.Node, key string, depth int) (k, v *yaml.Node) {
	const deepest = 20 // merges may refer to each other
	if n == nil || n.Kind != yaml.MappingNode || depth > deepest {
		return nil, nil
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch k := n.Content[i]; {
		case k.Value == key && k.Kind == yaml.ScalarNode:
			return k, n.Content[i+1]
		case k.Value == "<<":
			m := follow(n.Content[i+1])
			merged = append(merged, m)
			if m != nil && m.Kind == yaml.SequenceNode {
				merged = append(merged, m.Content...)
			}
		}
	}
	for _, m := range merged {
		if k, v := pair(follow(m), key, depth+1); k != nil {
			return k, v
		}
	}
	return nil, nil
}

// found is a key of a file.
type found struct {
	file   *parsedFile
	parent *yaml.Node // mapping with the key
	key    *yaml.Node
	depth  int // of the path that leads to it
}

// position returns the place of the key.
func (f found) position() bake.Position {
	if f.key == nil {
		return bake.Position{}
	}
	return bake.Position{File: f.file.shown, Line: f.key.Line, Column: f.key.Column}
}

// find returns the key with a path such as services.web.build.args in the last file
// that has it, or else in the service that this one extends. If there is none, it
// returns the key that most of the path leads to. Names of services may contain dots.
func (p *places) find(path string) found {
	parts := strings.Split(strings.NewReplacer("[]", "0", "[", ".", "]", "").Replace(path), ".")
	best := p.search(parts)
	const longest = 20 // a service may extend itself
	for range longest {
		if best.depth == len(parts) || parts[0] != "services" {
			return best
		}
		n, service := 0, (*yaml.Node)(nil)
		for n = len(parts); n > 1 && service == nil; n-- {
			if f := p.search(parts[:n]); f.depth == n {
				service = follow(child(f.parent, f.key.Value))
			}
		}
		base := follow(child(service, "extends"))
		if name := follow(child(base, "service")); name != nil {
			base = name
		}
		if base == nil || base.Kind != yaml.ScalarNode {
			return best
		}
		next := append([]string{"services"}, strings.Split(base.Value, ".")...)
		parts = append(next, parts[n+1:]...)
		if f := p.search(parts); f.depth-len(next) > best.depth-n-1 {
			best = f
		}
	}
	return best
}

// search returns the key that most of the path leads to, in the last file with it.
func (p *places) search(parts []string) (best found) {
	for _, list := range [][]*parsedFile{p.files, p.extra} {
		for i := len(list) - 1; i >= 0; i-- {
			for _, d := range list[i].documents {
				f := search(follow(d), parts, 0)
				f.file = list[i]
				if f.key != nil && f.depth > best.depth {
					best = f
				}
			}
		}
	}
	return best
}

// search returns the key below n that most of a path leads to.
func search(n *yaml.Node, path []string, depth int) (best found) {
	if n == nil || len(path) == 0 {
		return best
	}
	if n.Kind == yaml.SequenceNode {
		i, err := strconv.Atoi(path[0])
		if err != nil || i < 0 || i >= len(n.Content) {
			return best
		}
		if best = search(follow(n.Content[i]), path[1:], depth+1); best.key == nil {
			best = found{parent: n, key: n.Content[i], depth: depth + 1}
		}
		return best
	}
	for i := len(path); i > 0; i-- {
		k, v := pair(n, strings.Join(path[:i], "."), 0)
		if k == nil {
			continue
		}
		f := search(follow(v), path[i:], depth+i)
		if f.key == nil {
			f = found{parent: n, key: k, depth: depth + i}
		}
		if f.depth > best.depth {
			best = f
		}
	}
	return best
}
