package worker

import (
	"github.com/cairn-build/cairn/builder/filecopy"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
)

// Result is the result of a step: a stack of layers, a directory, or a downloaded file.
type Result struct {
	stack *snapshot.Stack // empty for a file, nil for a directory
	key   solve.Key       // the content key that the stack is stored under; "" for roots
	dir   *source.Dir     // of a context or a repository
	file  *filecopy.File  // of a download
}

// Stack returns the layers of the result. It is nil for a build context.
func (r *Result) Stack() *snapshot.Stack { return r.stack }
