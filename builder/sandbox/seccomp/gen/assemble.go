package main

import (
	"fmt"
	"slices"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// machine is a Go architecture with the system call tables of its kernel.
type machine struct {
	goarch string
	tables []table
}

// table is one list of system calls.
type table struct {
	audit   uint32
	numbers map[string]int
	x32     bool // numbers from 0x40000000 on belong to another table, which is refused
}

func machines() []machine {
	of := func(i *arch.Info) table { return table{uint32(i.ID), i.SyscallNames, i == arch.X86_64} }
	return []machine{
		{"amd64", []table{of(arch.X86_64), of(arch.I386)}},
		{"arm64", []table{of(arch.AARCH64), of(arch.ARM)}},
	}
}

// capabilities returns the capabilities of a step. Package step has the same list.
func capabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD",
		"CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP",
		"CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// Offsets in struct seccomp_data, the input of a filter.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
	x32Bit       = 0x40000000
)

const (
	allow  = unix.SECCOMP_RET_ALLOW
	denied = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	absent = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// code is a part of a filter.
type code []unix.SockFilter

// assemble returns the filter for the rules that apply to a machine.
func assemble(m machine, rules []*seccomp.Syscall) (code, error) {
	byName := map[string][]specs.LinuxSyscall{}
	for _, r := range rules {
		if !applies(r, m.goarch) {
			continue
		}
		for _, name := range r.Names {
			byName[name] = append(byName[name], r.LinuxSyscall)
		}
	}
	out := code{load(offsetArch)}
	for _, t := range m.tables {
		body, err := t.assemble(byName)
		if err != nil {
			return nil, err
		}
		out = append(out, jump(unix.BPF_JEQ, t.audit, 1, 0), jumpAlways(len(body)))
		out = append(out, body...)
	}
	return append(out, result(unix.SECCOMP_RET_KILL_PROCESS)), nil
}

// applies reports whether a rule applies to the machine and the capabilities. All supported
// kernels are newer than those in rules.
func applies(r *seccomp.Syscall, goarch string) bool {
	hasCap := func(c string) bool { return slices.Contains(capabilities(), c) }
	if f := r.Excludes; f != nil {
		if slices.Contains(f.Arches, goarch) || slices.ContainsFunc(f.Caps, hasCap) || f.MinKernel != nil {
			return false
		}
	}
	if f := r.Includes; f != nil {
		if len(f.Arches) > 0 && !slices.Contains(f.Arches, goarch) {
			return false
		}
		return !slices.ContainsFunc(f.Caps, func(c string) bool { return !hasCap(c) })
	}
	return true
}

// span is a range of call numbers from first on with the same code.
type span struct {
	first uint32
	code  code
}

func (t table) assemble(byName map[string][]specs.LinuxSyscall) (code, error) {
	names := map[int]string{}
	last := 0
	for name, n := range t.numbers {
		names[n] = name
		last = max(last, n)
	}
	var spans []span
	for n := 0; n <= last+1; n++ {
		c := code{result(absent)}
		if name, ok := names[n]; ok {
			var err error
			if c, err = decide(byName[name]); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		if len(spans) == 0 || !slices.Equal(spans[len(spans)-1].code, c) {
			spans = append(spans, span{uint32(n), c})
		}
	}
	out := code{load(offsetNumber)}
	if t.x32 {
		out = append(out, jump(unix.BPF_JGE, x32Bit, 0, 1), result(absent))
	}
	return append(out, search(spans)...), nil
}

// search returns code for a binary search of the span of the loaded number.
func search(spans []span) code {
	if len(spans) == 1 {
		return spans[0].code
	}
	middle := len(spans) / 2
	left, right := search(spans[:middle]), search(spans[middle:])
	out := code{jump(unix.BPF_JGE, spans[middle].first, 0, 0)}
	if len(left) <= 255 {
		out[0].Jt = uint8(len(left))
	} else {
		out[0].Jf = 1
		out = append(out, jumpAlways(len(left)))
	}
	return append(append(out, left...), right...)
}

// decide returns the code for one system call: the first rule whose conditions hold applies.
func decide(rules []specs.LinuxSyscall) (code, error) {
	var out code
	for _, r := range rules {
		action, err := actionOf(r)
		if err != nil {
			return nil, err
		}
		if len(r.Args) == 0 {
			return code{result(action)}, nil
		}
		test, err := conditions(r.Args)
		if err != nil {
			return nil, err
		}
		// If a condition does not hold, its code jumps over the result.
		out = append(append(out, test...), result(action))
	}
	return append(out, result(denied)), nil
}

func actionOf(r specs.LinuxSyscall) (uint32, error) {
	switch {
	case r.Action == specs.ActAllow:
		return allow, nil
	case r.Action == specs.ActErrno && r.ErrnoRet != nil:
		return unix.SECCOMP_RET_ERRNO | uint32(*r.ErrnoRet), nil
	}
	return 0, fmt.Errorf("unknown action %s", r.Action)
}

// conditions returns code that continues at its end if all conditions hold, and otherwise
// jumps over one more instruction.
func conditions(args []specs.LinuxSeccompArg) (code, error) {
	var out code
	for _, a := range args {
		c, err := condition(a)
		if err != nil {
			return nil, err
		}
		out = append(out, c...)
	}
	for i := range out {
		// 255 is a placeholder; see condition.
		if beyond := uint8(len(out) - i); out[i].Jf == 255 {
			out[i].Jf = beyond
		} else if out[i].Jt == 255 {
			out[i].Jt = beyond
		}
	}
	return out, nil
}

// condition returns code that compares an argument of two words with a value whose upper
// word is zero. A jump of 255 is a placeholder for a jump out of the rule.
func condition(a specs.LinuxSeccompArg) (code, error) {
	low := uint32(offsetArgs + 8*a.Index)
	if a.Value>>32 != 0 || a.ValueTwo>>32 != 0 {
		return nil, fmt.Errorf("value %#x is too large", a.Value)
	}
	value := uint32(a.Value)
	upper := code{load(low + 4), jump(unix.BPF_JEQ, 0, 0, 255)}
	switch a.Op {
	case specs.OpEqualTo:
		return append(upper, load(low), jump(unix.BPF_JEQ, value, 0, 255)), nil
	case specs.OpLessThan:
		return append(upper, load(low), jump(unix.BPF_JGE, value, 255, 0)), nil
	case specs.OpMaskedEqual:
		return code{
			load(low),
			{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: value},
			jump(unix.BPF_JEQ, uint32(a.ValueTwo), 0, 255),
		}, nil
	}
	return nil, fmt.Errorf("unknown operator %s", a.Op)
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(op uint16, value uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: value, Jt: yes, Jf: no}
}

func jumpAlways(over int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(over)}
}

func result(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}
