package sentry

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/memutil"
)

// minProcesses is the number of processes and threads that a small command needs.
const minProcesses = 64

// check returns an error for settings of the machine or the container without which the
// kernel cannot run. It would end this process with a less helpful message.
func check() error {
	return errors.Join(checkPtrace(), checkMemory(), checkLimit())
}

// checkPtrace finds out whether this process may trace its children.
func checkPtrace() error {
	// There is no such process: if the call is allowed, the answer is that.
	err := unix.PtraceAttach(1<<22 + 1)
	if err != unix.ESRCH {
		return fmt.Errorf("ptrace is refused (%w): the seccomp profile of the container must allow ptrace, as the default of containerd 1.4, "+
			"docker 19.03, cri-o 1.18 and later on Linux 4.8 and later does", err)
	}
	const name = "/proc/sys/kernel/yama/ptrace_scope"
	scope, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	if n, _ := strconv.Atoi(strings.TrimSpace(string(scope))); n >= 2 && !hasCapability(unix.CAP_SYS_PTRACE) {
		return fmt.Errorf("ptrace is refused: %s is %d: set it to 1 on the machine, or give the container CAP_SYS_PTRACE", name, n)
	}
	return nil
}

func hasCapability(n uint) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&head, &data[0]) == nil && data[n/32].Effective&(1<<(n%32)) != 0
}

// checkMemory finds out whether this process may map files in memory as code, which
// SELinux can forbid.
func checkMemory() error {
	fd, err := memutil.CreateMemFD("check", 0)
	if err != nil {
		return fmt.Errorf("memfd_create is refused: %w", err)
	}
	defer unix.Close(fd)
	size := os.Getpagesize()
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return err
	}
	b, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("executable mappings of memory files are refused (%w): the SELinux or AppArmor policy of the container, "+
			"or the sysctl vm.memfd_noexec of the machine, must allow them", err)
	}
	return unix.Munmap(b)
}

// checkLimit compares the limit of processes with those that run.
func checkLimit() error {
	const dir = "/sys/fs/cgroup/"
	for _, names := range [][2]string{{"pids.max", "pids.current"}, {"pids/pids.max", "pids/pids.current"}} {
		limit, ok := readNumber(dir + names[0])
		if !ok {
			continue
		}
		if current, ok := readNumber(dir + names[1]); ok && limit-current < minProcesses {
			return fmt.Errorf("%s%s allows %d processes, of which %d run: let the container have at least %d more",
				dir, names[0], limit, current, minProcesses-(limit-current))
		}
	}
	return nil
}

func readNumber(name string) (int64, bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// totalMemory returns the number of bytes of memory that programs see: those of the
// machine, or the limit of the container.
func totalMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 2 << 30
	}
	total := uint64(info.Totalram) * uint64(info.Unit)
	for _, name := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if limit, ok := readNumber(name); ok && limit > 0 {
			total = min(total, uint64(limit))
		}
	}
	return total
}
