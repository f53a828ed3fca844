// Package lazyinit keeps the initialization of a library from every start of a program
// that imports it.
//
// The JSON schema library of compose-go compiles six schemas when it is initialized,
// which takes as long as the rest of a start, and only Compose files need them. This
// package is initialized earlier, since it imports less, and marks the library as
// initialized unless an argument names a command that reads Compose files.
package lazyinit

import (
	"os"
	"slices"
	_ "unsafe" // for linkname
)

// schemaTask is the runtime's record of the library's initialization. Its first word is
// 0 before and 2 after.
//
//go:linkname schemaTask github.com/santhosh-tekuri/jsonschema/v6..inittask
var schemaTask struct{ state, functions uint32 }

// readers lists the commands that read Compose files, and cobra's that complete their
// arguments.
var readers = [...]string{"compose", "bake", "__complete", "__completeNoDesc"}

func init() {
	const initialized = 2
	if !slices.ContainsFunc(os.Args, func(arg string) bool { return slices.Contains(readers[:], arg) }) {
		schemaTask.state = initialized
	}
}
