package sentry

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/bpf"
	"gvisor.dev/gvisor/pkg/seccomp"
	"gvisor.dev/gvisor/pkg/sentry/platform"
)

// installFilter allows this process only the system calls that the kernel needs, and
// nothing that maps new code. Others fail with EPERM. Above all there is no execve, no
// clone of processes outside the platform, and no access to files by absolute paths
// except those that are opened without following links.
func installFilter(p platform.SeccompInfo) error {
	rules := seccomp.NewSyscallRules()
	for _, n := range allowed() {
		rules.Set(n, seccomp.MatchAll{})
	}
	for n, rule := range restricted() {
		rules.Set(n, rule)
	}
	rules.Merge(p.SyscallFilters(p.Variables()))
	program := &seccomp.Program{
		RuleSets: []seccomp.RuleSet{
			{Rules: seccomp.DenyNewExecMappings},
			{Rules: rules, Action: seccomp.Allow},
		},
		Options: seccomp.ProgramOptions{
			DefaultAction:     seccomp.ReturnError.Code(uint16(unix.EPERM)),
			BadArchAction:     seccomp.KillProcess,
			SkipOptimizations: true,
			HotSyscalls:       append([]uintptr{unix.SYS_FUTEX}, p.HottestSyscalls()...),
		},
	}
	return program.Install(nil)
}

// allowed lists system calls that work on open files, on memory or on this process.
func allowed() []uintptr {
	return append([]uintptr{
		unix.SYS_ACCEPT4, unix.SYS_BIND, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOSE, unix.SYS_CONNECT, unix.SYS_COPY_FILE_RANGE,
		unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2,
		unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_FALLOCATE, unix.SYS_FCHMOD, unix.SYS_FCHOWN, unix.SYS_FCNTL, unix.SYS_FDATASYNC, unix.SYS_FSTAT,
		unix.SYS_FSTATFS, unix.SYS_FSYNC, unix.SYS_FTRUNCATE, unix.SYS_FUTEX, unix.SYS_GETCPU, unix.SYS_GETDENTS64,
		unix.SYS_GETPEERNAME, unix.SYS_GETPID, unix.SYS_GETRANDOM, unix.SYS_GETSOCKNAME, unix.SYS_GETSOCKOPT,
		unix.SYS_GETTID, unix.SYS_GETTIMEOFDAY, unix.SYS_IOCTL, unix.SYS_LISTEN, unix.SYS_LSEEK, unix.SYS_MADVISE,
		unix.SYS_MEMBARRIER, unix.SYS_MEMFD_CREATE, unix.SYS_MINCORE, unix.SYS_MLOCK, unix.SYS_MMAP, unix.SYS_MPROTECT,
		unix.SYS_MUNLOCK, unix.SYS_MUNMAP, unix.SYS_NANOSLEEP, unix.SYS_PIPE2, unix.SYS_PPOLL, unix.SYS_PREAD64,
		unix.SYS_PREADV, unix.SYS_PREADV2, unix.SYS_PWRITE64, unix.SYS_PWRITEV, unix.SYS_PWRITEV2, unix.SYS_READ,
		unix.SYS_READV, unix.SYS_RECVFROM, unix.SYS_RECVMMSG, unix.SYS_RECVMSG, unix.SYS_RESTART_SYSCALL,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SCHED_GETAFFINITY,
		unix.SYS_SCHED_YIELD, unix.SYS_SENDMMSG, unix.SYS_SENDMSG, unix.SYS_SENDTO, unix.SYS_SETITIMER,
		unix.SYS_SETSOCKOPT, unix.SYS_SHUTDOWN, unix.SYS_SIGALTSTACK, unix.SYS_SYNC_FILE_RANGE, unix.SYS_TEE,
		unix.SYS_TIMER_CREATE, unix.SYS_TIMER_DELETE, unix.SYS_TIMER_SETTIME, unix.SYS_WRITE, unix.SYS_WRITEV,
	}, archAllowed()...)
}

// restricted has the system calls whose arguments are checked.
func restricted() map[uintptr]seccomp.SyscallRule {
	socket := seccomp.Or{}
	for _, family := range []uintptr{unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_UNIX} {
		socket = append(socket, seccomp.PerArg{seccomp.EqualTo(family)})
	}
	below := seccomp.PerArg{seccomp.NonNegativeFD{}}
	noFollow := seccomp.MaskedEqual(unix.O_NOFOLLOW, unix.O_NOFOLLOW)
	return map[uintptr]seccomp.SyscallRule{
		unix.SYS_SOCKET: socket,
		unix.SYS_PRCTL:  seccomp.PerArg{seccomp.EqualTo(unix.PR_SET_VMA)},
		unix.SYS_CLONE: seccomp.PerArg{
			seccomp.MaskedEqual(unix.CLONE_VM|unix.CLONE_THREAD, unix.CLONE_VM|unix.CLONE_THREAD),
		},
		unix.SYS_OPENAT:     seccomp.PerArg{seccomp.AnyValue{}, seccomp.AnyValue{}, noFollow},
		unix.SYS_OPENAT2:    below,
		unix.SYS_MKDIRAT:    below,
		unix.SYS_LINKAT:     below,
		unix.SYS_UNLINKAT:   seccomp.PerArg{seccomp.AnyValue{}},
		unix.SYS_RENAMEAT2:  below,
		unix.SYS_READLINKAT: below,
		unix.SYS_FCHOWNAT:   below,
		unix.SYS_SYMLINKAT:  seccomp.PerArg{seccomp.AnyValue{}, seccomp.NonNegativeFD{}},
		unix.SYS_UTIMENSAT:  below,
		unix.SYS_STATX:      below,
	}
}

// hideCalls makes system calls fail as on another kernel or processor, in this process and
// in those of commands. The platform accepts that.
//
// Container runtimes that do not know mseal refuse it with an error that the platform does
// not accept. Faults for the instruction CPUID let the platform hide features of the
// processor, which costs each program about thirty faults at its start, and more than all
// else that a short program does.
func hideCalls() error {
	const mseal = 462
	errno := func(n unix.Errno) uint32 { return uint32(linux.SECCOMP_RET_ERRNO.WithReturnCode(uint16(n))) }
	program := []bpf.Instruction{
		bpf.Stmt(bpf.Ld|bpf.W|bpf.Abs, 0), // the number of the call
		bpf.Jump(bpf.Jmp|bpf.Jeq|bpf.K, mseal, 0, 1),
		bpf.Stmt(bpf.Ret|bpf.K, errno(unix.ENOSYS)),
	}
	if call, function := cpuidFaults(); call > 0 {
		const firstArgument = 16
		program = append(program,
			bpf.Jump(bpf.Jmp|bpf.Jeq|bpf.K, call, 0, 3),
			bpf.Stmt(bpf.Ld|bpf.W|bpf.Abs, firstArgument),
			bpf.Jump(bpf.Jmp|bpf.Jeq|bpf.K, function, 0, 1),
			bpf.Stmt(bpf.Ret|bpf.K, errno(unix.ENODEV)))
	}
	return seccomp.SetFilter(append(program, bpf.Stmt(bpf.Ret|bpf.K, uint32(linux.SECCOMP_RET_ALLOW))))
}
