package hcl

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/dockerfile"
)

// policy is the attribute for files with rules of the Open Policy Agent.
const policy = "policy"

// blocks returns the blocks of a definition with the names of their attributes.
var blocks = sync.OnceValue(func() map[string][]string {
	return map[string][]string{
		"target":   append(attributesOf(target{}), "name", "matrix", policy),
		"group":    attributesOf(group{}),
		"variable": {"default", "type", "description"},
		"function": {"params", "variadic_params", "result"},
	}
})

func attributesOf(block any) (names []string) {
	schema, _ := gohcl.ImpliedBodySchema(block)
	for _, a := range schema.Attributes {
		names = append(names, a.Name)
	}
	return names
}

// consequence ends the text of an error that follows another one of the same value.
const consequence = ": value must be known"

// problems converts the errors among diagnostics, sorted by position.
func problems(diags hcl.Diagnostics, files []*hcl.File) bake.Problems {
	var list bake.Problems
	places := places(files)
	for _, d := range diags {
		if d.Severity != hcl.DiagError || len(diags) > 1 && strings.HasSuffix(d.Detail, consequence) {
			continue
		}
		p := bake.Problem{Text: text(d)}
		if d.Subject != nil {
			p.Position = position(*d.Subject)
			p.Target = places.target(p.Position)
		}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(a, b bake.Problem) int { return compare(a.Position, b.Position) })
	return list
}

func compare(a, b bake.Position) int {
	return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}

// text returns the text of a diagnostic in the style of the other errors.
func text(d *hcl.Diagnostic) string {
	s := d.Summary
	if d.Detail != "" {
		s += ": " + strings.TrimSuffix(d.Detail, ".")
	}
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		s = strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// place is the beginning of a block.
type place struct {
	bake.Position
	kind, label string
}

// sortedPlaces are the blocks of all files, sorted by position.
type sortedPlaces []place

func places(files []*hcl.File) (list sortedPlaces) {
	for _, f := range files {
		if f == nil || f.Body == nil {
			continue
		}
		for _, b := range content(f.Body) {
			p := place{Position: position(b.DefRange), kind: b.Type}
			if len(b.Labels) > 0 {
				p.label = b.Labels[0]
			}
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b place) int { return compare(a.Position, b.Position) })
	return list
}

// around returns the block around a position.
func (s sortedPlaces) around(p bake.Position) (place, bool) {
	i, found := slices.BinarySearchFunc(s, p, func(b place, p bake.Position) int { return compare(b.Position, p) })
	if !found {
		i--
	}
	if i < 0 || s[i].File != p.File {
		return place{}, false
	}
	return s[i], true
}

// target returns the label of the target around a position, or "".
func (s sortedPlaces) target(p bake.Position) string {
	if b, ok := s.around(p); ok && b.kind == "target" {
		return b.label
	}
	return ""
}

// content returns the blocks of a file.
func content(body hcl.Body) hcl.Blocks {
	schema := &hcl.BodySchema{}
	for kind := range blocks() {
		schema.Blocks = append(schema.Blocks, hcl.BlockHeaderSchema{Type: kind, LabelNames: []string{"name"}})
	}
	content, _, _ := body.PartialContent(schema) // the evaluator reports the errors
	if content == nil {
		return nil
	}
	return content.Blocks
}

// unknownNames returns warnings for blocks and attributes without a meaning.
func unknownNames(files []*hcl.File) (list []bake.Problem) {
	kinds := []string{"target", "group", "variable", "function"}
	for _, f := range files {
		if body, ok := f.Body.(*hclsyntax.Body); ok {
			for _, b := range body.Blocks {
				if !slices.Contains(kinds, b.Type) {
					list = append(list, unknown("", "block", b.Type, b.TypeRange, kinds))
				}
			}
		}
		for _, b := range content(f.Body) {
			list = append(list, unknownIn(b)...)
		}
	}
	slices.SortStableFunc(list, func(a, b bake.Problem) int { return compare(a.Position, b.Position) })
	return list
}

func unknownIn(b *hcl.Block) (list []bake.Problem) {
	label, known := "", blocks()[b.Type]
	if b.Type == "target" {
		label = b.Labels[0]
	}
	if body, ok := b.Body.(*hclsyntax.Body); ok {
		for _, inner := range body.Blocks {
			if b.Type != "variable" || inner.Type != "validation" {
				list = append(list, unknown(label, "block", inner.Type, inner.TypeRange, known))
			}
		}
	}
	attributes, _ := b.Body.JustAttributes() // blocks are looked at above
	for name, a := range attributes {
		if !slices.Contains(known, name) && (b.Type != "variable" || name != "validation") {
			list = append(list, unknown(label, "attribute", name, a.NameRange, known))
		}
	}
	return list
}

// refused returns an error for each attribute that is not supported.
func refused(files []*hcl.File) (list bake.Problems) {
	for _, f := range files {
		for _, b := range content(f.Body) {
			attributes, _ := b.Body.JustAttributes() // the evaluator reports the errors
			if a, ok := attributes[policy]; ok && b.Type == "target" {
				list = append(list, bake.Problem{Position: position(a.NameRange), Target: b.Labels[0], Text: "policies are not supported: remove the attribute " + policy})
			}
		}
	}
	return list
}

func unknown(target, kind, name string, r hcl.Range, known []string) bake.Problem {
	text := fmt.Sprintf("unknown %s %q is ignored", kind, name)
	if guess := dockerfile.Suggest(name, known); guess != "" {
		text += fmt.Sprintf(" (did you mean %q?)", guess)
	}
	return bake.Problem{Position: position(r), Target: target, Text: text}
}
