package step

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultCapabilities returns the capabilities of a step as a bit set: those that a
// container has by default.
func DefaultCapabilities() (set uint64) {
	for _, c := range []int{
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FSETID, unix.CAP_FOWNER, unix.CAP_MKNOD,
		unix.CAP_NET_RAW, unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETFCAP, unix.CAP_SETPCAP,
		unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT, unix.CAP_KILL, unix.CAP_AUDIT_WRITE,
	} {
		set |= 1 << c
	}
	return set
}

// BoundingSet returns the capability bounding set of this thread as a bit set. A step
// cannot have other capabilities: the container that Cairn runs in has dropped them.
func BoundingSet() (set uint64) {
	last := 40
	if text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		last, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	for c := 0; c <= last; c++ {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil && has == 1 {
			set |= 1 << c
		}
	}
	return set
}

// CapabilitySets returns the arguments of capset(2) that make a set effective and
// permitted, and nothing inheritable.
func CapabilitySets(set uint64) (unix.CapUserHeader, [2]unix.CapUserData) {
	return unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{
		{Effective: uint32(set), Permitted: uint32(set)},
		{Effective: uint32(set >> 32), Permitted: uint32(set >> 32)},
	}
}

// maxOpenFiles is the maximum soft limit of open files. Programs that close all possible
// descriptors one by one are slow with much higher limits.
const maxOpenFiles = 65536

// OpenFiles returns the limit of open files for a step.
func OpenFiles() unix.Rlimit {
	limit := unix.Rlimit{Cur: maxOpenFiles, Max: maxOpenFiles}
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = min(limit.Max, maxOpenFiles)
	}
	return limit
}

// OpenCgroups opens the cgroup.procs files of the groups that a command enters.
func OpenCgroups(files []string) (list []int, err error) {
	for _, file := range files {
		fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			for _, fd := range list {
				unix.Close(fd)
			}
			return nil, fmt.Errorf("enter the cgroup %s: %w", filepath.Dir(file), err)
		}
		list = append(list, fd)
	}
	return list, nil
}
