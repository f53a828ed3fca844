package hugeheap

import (
	"os"
	"strings"
	"testing"
	"unsafe"
)

func TestFind(t *testing.T) {
	const lines = "00400000-00c74000 r-xp 00000000 fe:00 123 /bin/cairn\n" +
		"c000000000-c000400000 rw-p 00000000 00:00 0 \n" +
		"c000400000-c004000000 ---p 00000000 00:00 0 \n" +
		"7f0000000000-7f00"
	for _, c := range []struct{ addr, start, end uintptr }{
		{0x400000, 0x400000, 0xc74000},
		{0xc0003fffff, 0xc000000000, 0xc000400000},
		{0xc000400000, 0xc000400000, 0xc004000000},
		{0xc74000, 0, 0},
		{0x7f0000000010, 0, 0},
	} {
		if start, end := find([]byte(lines), c.addr); start != c.start || end != c.end {
			t.Errorf("find %x: %x-%x, want %x-%x", c.addr, start, end, c.start, c.end)
		}
	}
	for _, cut := range []string{"", "\n", "c0", "c0-", "zz", "c0-c1"} {
		if start, end := find([]byte(cut), 1); start != 0 || end != 0 {
			t.Errorf("find in %q: %x-%x", cut, start, end)
		}
	}
}

// The kernel says of each mapping how much of it lies on huge pages.
func TestHuge(t *testing.T) {
	if b, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err != nil || strings.Contains(string(b), "[never]") {
		t.Skip("this machine has no huge pages")
	}
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(b), heapLine(b))
	if !ok {
		t.Fatal("no mapping holds the heap")
	}
	for line := range strings.Lines(after) {
		if size, ok := strings.CutPrefix(line, "AnonHugePages:"); ok {
			t.Logf("huge: %s", strings.TrimSpace(size))
			if strings.TrimSpace(size) == "0 kB" {
				t.Skip("the kernel had no huge page to give")
			}
			return
		}
	}
	t.Error("smaps does not tell of huge pages")
}

// heapLine is the line of smaps that begins the heap's first mapping.
func heapLine(smaps []byte) string {
	for line := range strings.Lines(string(smaps)) {
		if start, end := find([]byte(line), uintptr(unsafe.Pointer(some))); start != end {
			return line
		}
	}
	return "\x00"
}
