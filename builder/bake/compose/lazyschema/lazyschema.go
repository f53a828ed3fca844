// Package lazyschema keeps the initialization of a library from every start of a program
// that imports it.
//
// The JSON schema library of compose-go compiles six schemas when it is initialized,
// which takes as long as the rest of a start, and only Compose files need them. This
// package is initialized earlier, since it imports less, and marks the library as
// initialized. [Init] initializes it.
package lazyschema

import (
	"sync"
	"unsafe"
)

// schemaTask is the runtime's record of the library's initialization: a state that is 0
// before and 2 after, and the number of functions, whose addresses follow.
//
//go:linkname schemaTask github.com/santhosh-tekuri/jsonschema/v6..inittask
var schemaTask struct{ state, functions uint32 }

const done = 2

// skipped reports whether the runtime leaves the initialization to Init.
var skipped bool

func init() {
	if schemaTask.state != done { // else this package is too late, and nothing is lost
		schemaTask.state, skipped = done, true
	}
}

// Init initializes the library if that has not happened yet, as the runtime would have. It
// must be called before the library is used.
func Init() { initialize() }

var initialize = sync.OnceFunc(func() {
	if !skipped {
		return
	}
	first := unsafe.Add(unsafe.Pointer(&schemaTask), unsafe.Sizeof(schemaTask))
	for _, address := range unsafe.Slice((*uintptr)(first), schemaTask.functions) {
		code := &address
		(*(*func())(unsafe.Pointer(&code)))()
	}
})
