// Package seccomp holds the filter of system calls under which a step runs: the rules
// that Docker and BuildKit apply by default, for the default capabilities.
//
// The rules come from moby/profiles and are assembled when Cairn is developed, not
// when it runs: this package has the finished program and nothing else, so that a step
// pays for its installation only. The program searches ranges of call numbers, which
// keeps it short; a long one costs more than a millisecond in the kernel, which tries
// every call number when a filter is installed.
//
// Calls that the rules know and do not allow fail with EPERM. Calls that they do not
// know fail with ENOSYS, so that programs fall back to older ones.
package seccomp

//go:generate go run ./gen

import "golang.org/x/sys/unix"

// Default returns the filter for this machine's architecture.
func Default() []unix.SockFilter { return program() }
