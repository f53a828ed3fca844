package hcl

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"github.com/cairn-build/cairn/builder/bake"
)

// maxNesting is the largest depth of brackets. The parsers are recursive, and the stack
// of a goroutine is limited.
const maxNesting = 1000

// checkNesting returns an error for a text whose brackets are nested too deep. It counts
// those in strings too.
func checkNesting(f bake.File) hcl.Diagnostics {
	depth, at := 0, hcl.Pos{Line: 1, Column: 1}
	for _, c := range f.Data {
		switch c {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth = max(depth-1, 0)
		}
		if depth > maxNesting {
			return hcl.Diagnostics{{
				Severity: hcl.DiagError,
				Summary:  fmt.Sprintf("brackets are nested deeper than %d levels", maxNesting),
				Subject:  &hcl.Range{Filename: f.Name, Start: at, End: at},
			}}
		}
		at.Column++
		if c == '\n' {
			at.Line, at.Column = at.Line+1, 1
		}
	}
	return nil
}
