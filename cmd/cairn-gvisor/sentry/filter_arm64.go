package sentry

import "golang.org/x/sys/unix"

// archAllowed lists the allowed system calls that other architectures lack or name
// differently.
func archAllowed() []uintptr { return []uintptr{unix.SYS_FSTATAT} }

// cpuidFaults returns the system call that turns on faults for the instruction CPUID, and
// its first argument; 0 if the architecture has none.
func cpuidFaults() (call, function uint32) { return 0, 0 }
