// Package seccomp contains the system call filter of a step: the default rules of Docker and
// BuildKit for the default capabilities.
//
// The rules come from moby/profiles and are assembled by go generate. The package
// contains the compiled filter; a step only installs it. The filter searches ranges of call numbers, which keeps it short. A long program takes
// more than a millisecond to install, because the kernel then evaluates it for every call
// number.
//
// System calls that the rules know and do not allow fail with EPERM. Unknown calls fail
// with ENOSYS, so that programs fall back to older ones.
package seccomp

//go:generate go run ./gen

import "golang.org/x/sys/unix"

// Default returns the filter for this machine's architecture.
func Default() []unix.SockFilter { return program() }
