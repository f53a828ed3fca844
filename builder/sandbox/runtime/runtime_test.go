package runtime

import "testing"

func TestIsMapped(t *testing.T) {
	const text = "         0       1000          1\n         1     100000      65536\n"
	for id, want := range map[int64]bool{0: true, 1: true, 65536: true, 65537: false} {
		if isMapped(text, id) != want {
			t.Errorf("%d: %v", id, !want)
		}
	}
}
