package progress

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestCounted(t *testing.T) {
	var seen []int64
	r := Counted(strings.NewReader(strings.Repeat("x", 2*moves+7)), func(n int64) { seen = append(seen, n) })
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, moves/2)); err != nil {
		t.Fatal(err)
	}
	if want := []int64{moves, 2 * moves, 2*moves + 7}; !slices.Equal(seen, want) {
		t.Errorf("told %d, want %d", seen, want)
	}
}
