package listing

import (
	"strings"
	"syscall"
)

// MaxSymlinks is the maximum number of symlinks that Follow follows.
const MaxSymlinks = 255

// Walker is a position in a file tree. Follow moves it.
type Walker interface {
	// Root moves to the root of the tree.
	Root()

	// Step moves to an element of a path, which may be "", "." or "..", from the
	// current position. If the element is a symlink and follow is set, Step does not
	// move and returns its target and true.
	Step(name string, follow bool) (target string, symlink bool, err error)
}

// Follow moves w along a path like the kernel, with the root of the tree as the root
// directory. It follows symlinks; one in the last element only if followLast is set.
// Absolute targets start from the root. The error is [syscall.ELOOP], or that of
// Step.
func Follow(w Walker, path string, followLast bool) error {
	links := 0
	for todo := []string{path}; len(todo) > 0; {
		name, rest, more := strings.Cut(todo[len(todo)-1], "/")
		if more {
			todo[len(todo)-1] = rest
		} else {
			todo = todo[:len(todo)-1]
		}
		target, symlink, err := w.Step(name, followLast || !onlySlashes(todo))
		if err != nil {
			return err
		}
		if !symlink {
			continue
		}
		if links++; links > MaxSymlinks {
			return syscall.ELOOP
		}
		if strings.HasPrefix(target, "/") {
			w.Root()
		}
		todo = append(todo, target)
	}
	return nil
}

// onlySlashes reports whether no elements are left. The caller decides the meaning
// of trailing slashes.
func onlySlashes(todo []string) bool {
	for _, s := range todo {
		if strings.Trim(s, "/") != "" {
			return false
		}
	}
	return true
}
