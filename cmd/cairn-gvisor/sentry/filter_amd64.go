package sentry

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
)

// archAllowed lists the allowed system calls that other architectures lack.
func archAllowed() []uintptr {
	return []uintptr{unix.SYS_EPOLL_WAIT, unix.SYS_NEWFSTATAT, unix.SYS_POLL}
}

// cpuidFaults returns the system call that turns on faults for the instruction CPUID, and
// its first argument; 0 if the architecture has none.
func cpuidFaults() (call, function uint32) { return unix.SYS_ARCH_PRCTL, linux.ARCH_SET_CPUID }
