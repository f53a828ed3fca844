package generate

import (
	"fmt"
	"strings"
)

// Diff returns the difference between two short texts in unified form: the lines of
// both, with two names at the top. It is empty if they are equal.
func Diff(oldName, newName, before, after string) string {
	if before == after {
		return ""
	}
	const most = 2000 // lines that are compared
	a, b := strings.SplitAfter(before, "\n"), strings.SplitAfter(after, "\n")
	if len(a) > most || len(b) > most {
		return fmt.Sprintf("%s and %s differ\n", oldName, newName)
	}
	common := make([][]int, len(a)+1) // longest common subsequence of the rests
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", oldName, newName)
	line := func(mark, text string) {
		if text != "" {
			out.WriteString(mark + strings.TrimSuffix(text, "\n") + "\n")
		}
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			line(" ", a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			line("-", a[i])
			i++
		default:
			line("+", b[j])
			j++
		}
	}
	return out.String()
}
