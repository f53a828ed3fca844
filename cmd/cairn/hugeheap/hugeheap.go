// Package hugeheap puts the first 4 MiB of the heap on two huge pages, for a
// program that imports it.
//
// Cairn is started often and runs briefly. Page faults take most of the time of its
// start, and two thirds of them are in the heap, one for each 4 KiB. With nested page
// tables, as in virtual machines, a fault costs 10 to 20 µs. Pages beyond the first
// 4 MiB are left to the kernel, since a process that needs more memory runs longer.
//
// It has to come before other packages have filled the heap. Go initializes packages
// that are ready in the order of their paths, so this one imports few.
package hugeheap

import (
	"syscall"
	"unsafe"
)

const (
	adviseHuge = 14 // MADV_HUGEPAGE
	collapse   = 25 // MADV_COLLAPSE, Linux 6.1
	atCwd      = ^uintptr(99)
	most       = 4 << 20
)

// maps is not on the heap, nor is its reader's path.
var (
	maps [4096]byte
	path = [...]byte{'/', 'p', 'r', 'o', 'c', '/', 's', 'e', 'l', 'f', '/', 'm', 'a', 'p', 's', 0}
	some *[64]byte
)

func init() {
	some = new([64]byte)
	start, end := find(readMaps(), uintptr(unsafe.Pointer(some)))
	if start == end || end-start > most {
		return
	}
	// An error changes nothing.
	if _, _, e := syscall.RawSyscall(syscall.SYS_MADVISE, start, end-start, adviseHuge); e == 0 {
		syscall.RawSyscall(syscall.SYS_MADVISE, start, end-start, collapse)
	}
}

// readMaps returns the part of /proc/self/maps that one read returns. The heap is near
// its beginning.
func readMaps() []byte {
	fd, _, e := syscall.RawSyscall6(syscall.SYS_OPENAT, atCwd, uintptr(unsafe.Pointer(&path)), syscall.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return nil
	}
	n, _, e := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&maps)), uintptr(len(maps)))
	syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	if e != 0 {
		return nil
	}
	return maps[:n]
}

// find returns the mapping of addr, in the format of proc_pid_maps(5), or zeros.
func find(lines []byte, addr uintptr) (start, end uintptr) {
	for len(lines) > 0 {
		start, lines = hex(lines)
		if len(lines) == 0 {
			return 0, 0
		}
		end, lines = hex(lines[1:]) // a dash
		if start <= addr && addr < end {
			return start, end
		}
		for len(lines) > 0 && lines[0] != '\n' {
			lines = lines[1:]
		}
		if len(lines) > 0 {
			lines = lines[1:]
		}
	}
	return 0, 0
}

// hex parses a number and returns the rest of the text.
func hex(b []byte) (v uintptr, rest []byte) {
	for i, c := range b {
		switch {
		case '0' <= c && c <= '9':
			v = v<<4 | uintptr(c-'0')
		case 'a' <= c && c <= 'f':
			v = v<<4 | uintptr(c-'a'+10)
		default:
			return v, b[i:]
		}
	}
	return v, nil
}
