package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestUpToDate fails if go generate must be run in the parent folder.
func TestUpToDate(t *testing.T) {
	for _, m := range machines() {
		want, err := generate(m)
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(filepath.Join("..", m.file()))
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s does not match the rules (%v): run go generate", m.file(), err)
		}
	}
}

// data returns the input of a filter in the form of an interpreter of network filters.
func data(audit, number uint32, args [6]uint64) []byte {
	b := binary.BigEndian.AppendUint32(nil, number)
	b = binary.BigEndian.AppendUint32(b, audit)
	b = append(b, make([]byte, 8)...)
	for _, a := range args {
		b = binary.BigEndian.AppendUint32(b, uint32(a))
		b = binary.BigEndian.AppendUint32(b, uint32(a>>32))
	}
	return b
}

func interpreter(t *testing.T, filter []unix.SockFilter) *bpf.VM {
	t.Helper()
	var list []bpf.Instruction
	for _, f := range filter {
		raw := bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}
		list = append(list, raw.Disassemble())
	}
	vm, err := bpf.NewVM(list)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// naive evaluates the rules one by one.
func naive(m machine, name string, args [6]uint64) uint32 {
	for _, r := range seccomp.DefaultProfile().Syscalls {
		if !applies(r, m.goarch) || !contains(r.Names, name) || !holds(r.Args, args) {
			continue
		}
		if r.Action == specs.ActErrno {
			return unix.SECCOMP_RET_ERRNO | uint32(*r.ErrnoRet)
		}
		return allow
	}
	return denied
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func holds(conditions []specs.LinuxSeccompArg, args [6]uint64) bool {
	for _, c := range conditions {
		have, ok := args[c.Index], false
		switch c.Op {
		case specs.OpEqualTo:
			ok = have == c.Value
		case specs.OpLessThan:
			ok = have < c.Value
		case specs.OpMaskedEqual:
			ok = have&c.Value == c.ValueTwo
		}
		if !ok {
			return false
		}
	}
	return true
}

func TestFilterAgreesWithRules(t *testing.T) {
	firsts := []uint64{
		0, 1, 2, 8, 16, 30, 38, 40, 41, 43, 45, 46, 0x20000, 0x20008, 0xffffffff,
		1 << 32, 1<<32 | 2, unix.CLONE_NEWUSER, unix.CLONE_NEWNS | 17, unix.CLONE_VM | unix.CLONE_VFORK,
	}
	for _, m := range machines() {
		filter, err := assemble(m, seccomp.DefaultProfile().Syscalls)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d instructions", m.goarch, len(filter))
		vm := interpreter(t, filter)
		for _, table := range m.tables {
			for name, number := range table.numbers {
				for _, first := range firsts {
					args := [6]uint64{first, first, 0, 0, 0, 0}
					got, err := vm.Run(data(table.audit, uint32(number), args))
					if err != nil {
						t.Fatal(err)
					}
					if want := naive(m, name, args); uint32(got) != want {
						t.Errorf("%s %s(%#x): %#x, want %#x", m.goarch, name, first, got, want)
					}
				}
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	for _, m := range machines() {
		filter, err := assemble(m, seccomp.DefaultProfile().Syscalls)
		if err != nil {
			t.Fatal(err)
		}
		vm := interpreter(t, filter)
		native := m.tables[0].audit
		for _, test := range []struct {
			name          string
			audit, number uint32
			want          uint32
		}{
			{"a call of a later kernel", native, 9999, absent},
			{"a call of another table", native, x32Bit + 1, absent},
			{"the greatest number", native, 1<<32 - 1, absent},
			{"another architecture", 1, 1, unix.SECCOMP_RET_KILL_PROCESS},
		} {
			got, err := vm.Run(data(test.audit, test.number, [6]uint64{}))
			if err != nil || uint32(got) != test.want {
				t.Errorf("%s: %s: %#x, want %#x (%v)", m.goarch, test.name, uint32(got), test.want, err)
			}
		}
	}
}

// TestSpots checks some system calls by hand, in case naive has a mistake.
func TestSpots(t *testing.T) {
	m := machines()[0]
	for name, want := range map[string]uint32{
		"read": allow, "execve": allow, "chroot": allow, "mount": denied, "bpf": denied, "keyctl": denied,
		"unshare": denied, "clone3": absent, "ptrace": allow, "init_module": denied, "kexec_load": denied,
	} {
		if got := naive(m, name, [6]uint64{}); got != want {
			t.Errorf("%s: %#x, want %#x", name, got, want)
		}
	}
}
