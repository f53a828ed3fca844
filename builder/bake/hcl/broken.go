package hcl

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/cairn-build/cairn/builder/bake"
)

// allErrors returns the errors of an evaluation, and those that it did not reach. The
// evaluator often stops at the first error, so the blocks with errors are left out and
// the rest is evaluated again. Errors that only come from a missing block are dropped.
func allErrors(files []*hcl.File, o bake.ReadOptions, found hcl.Diagnostics, values *budget) hcl.Diagnostics {
	all, list := found, places(files)
	broken := map[bake.Position]place{}
	for {
		before := len(broken)
		for _, d := range found {
			if d.Subject == nil {
				continue
			}
			if p, ok := list.around(position(*d.Subject)); ok {
				broken[p.Position] = p
			}
		}
		if len(broken) == before {
			return all
		}
		var err error
		if _, found, err = evaluate(without(files, broken), o, &file{}, values); err != nil || !found.HasErrors() {
			return all
		}
		for _, d := range found {
			if !causedBy(d, broken) {
				all = append(all, d)
			}
		}
	}
}

// causedBy reports whether a diagnostic names one of the blocks that were left out.
func causedBy(d *hcl.Diagnostic, broken map[bake.Position]place) bool {
	for _, b := range broken {
		if strings.Contains(d.Detail, `"`+b.label+`"`) {
			return true
		}
	}
	return false
}

// without returns files without some blocks.
func without(files []*hcl.File, broken map[bake.Position]place) (rest []*hcl.File) {
	for _, f := range files {
		rest = append(rest, &hcl.File{Body: partialBody{f.Body, broken}, Bytes: f.Bytes})
	}
	return rest
}

// partialBody is a body without some blocks.
type partialBody struct {
	hcl.Body
	broken map[bake.Position]place
}

// Content returns the content without the blocks.
func (b partialBody) Content(schema *hcl.BodySchema) (*hcl.BodyContent, hcl.Diagnostics) {
	content, diags := b.Body.Content(schema)
	b.filter(content)
	return content, diags
}

// PartialContent returns the content without the blocks.
func (b partialBody) PartialContent(schema *hcl.BodySchema) (*hcl.BodyContent, hcl.Body, hcl.Diagnostics) {
	content, rest, diags := b.Body.PartialContent(schema)
	b.filter(content)
	return content, partialBody{rest, b.broken}, diags
}

func (b partialBody) filter(content *hcl.BodyContent) {
	if content == nil {
		return
	}
	content.Blocks = slices.DeleteFunc(content.Blocks, func(block *hcl.Block) bool {
		_, ok := b.broken[position(block.DefRange)]
		return ok
	})
}
