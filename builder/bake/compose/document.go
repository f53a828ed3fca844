package compose

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/cairn-build/cairn/builder/bake"
)

// maxDepth is the number of mappings and sequences that may be in one another. Compose
// files have about ten; compose-go takes time by the square of it.
const maxDepth = 100

// checkDocuments returns an error for files that compose-go would follow without end: those
// with an alias of a node that has the alias, and those with too many levels.
func checkDocuments(files []types.ConfigFile) error {
	var all bake.Problems
	for _, f := range files {
		d := yaml.NewDecoder(bytes.NewReader(f.Content))
		for {
			var doc yaml.Node
			if d.Decode(&doc) != nil {
				break // its end, or an error that compose-go reports
			}
			c := nesting{heights: map[*yaml.Node]int{}}
			if c.check(&doc, nil); c.at != nil {
				all = append(all, bake.Problem{Position: bake.Position{File: shownName(f.Filename), Line: c.at.Line, Column: c.at.Column}, Text: c.why})
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// nesting finds the nodes at which a document has no end.
type nesting struct {
	heights map[*yaml.Node]int // levels of checked nodes
	at      *yaml.Node         // the first such node
	why     string
}

// check returns the number of levels of a node that is in the given ones.
func (c *nesting) check(n *yaml.Node, above []*yaml.Node) (height int) {
	place := n
	if n.Kind == yaml.AliasNode {
		if n = n.Alias; slices.Contains(above, n) {
			c.stop(place, fmt.Sprintf("the alias *%s is a part of the node that it stands for", place.Value))
			return 0
		}
	}
	height, checked := c.heights[n]
	if len(above)+height > maxDepth {
		c.stop(place, fmt.Sprintf("more than %d mappings and sequences are in one another", maxDepth))
	}
	if checked || c.at != nil {
		return height
	}
	above = append(above, n)
	for _, child := range n.Content {
		height = max(height, 1+c.check(child, above))
		if c.at != nil {
			return height
		}
	}
	c.heights[n] = height
	return height
}

func (c *nesting) stop(at *yaml.Node, why string) {
	if c.at == nil {
		c.at, c.why = at, why
	}
}
