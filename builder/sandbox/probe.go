package sandbox

import "errors"

// Report is what the machine grants.
type Report struct {
	Rung     string // "namespaces", "rootless", "none"
	Snapshot string // "overlay", "none"
	Kernel   string
	Lacks    []Lack
}

// Lack is one thing missing for a better rung or snapshot.
type Lack struct {
	For   string // the rung or snapshot that it would give
	What  string // what is missing
	Grant string // how to grant it
}

// Probe finds out what the machine grants for a store in storeDir.
func Probe(storeDir string) (Report, error) { return Report{}, errors.ErrUnsupported }
