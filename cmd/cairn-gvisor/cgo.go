//go:build cgo

package main

// The C library registers memory of each thread with the machine's kernel (rseq), which the
// processes of the platform do not survive.
var _ int = "build cairn-gvisor with CGO_ENABLED=0"
