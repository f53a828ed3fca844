package imagediff

import "fmt"

// pair has the indexes of two matching elements of two lists, or -1 for none.
type pair struct{ a, b int }

// Bounds for lists of hostile images, which no builder makes.
const (
	maxTable = 1 << 20 // product of the lengths of lists to match
	maxPairs = 1 << 10 // elements of longer lists to pair by position
)

// align matches the elements of two lists of n and m elements: a longest common
// subsequence, and the elements between by position. Lists that are too long for
// that are paired by position after their common beginning, and only up to maxPairs
// elements; cut is the number of elements left out at the end of each.
func align(n, m int, same func(i, j int) bool) (out []pair, cut [2]int) {
	start := 0
	if n*m > maxTable {
		for start < min(n, m) && same(start, start) {
			out = append(out, pair{start, start})
			start++
		}
	}
	n, m = n-start, m-start
	if n*m <= maxTable {
		return appendMatches(out, start, n, m, same), cut
	}
	cut = [2]int{max(n-maxPairs, 0), max(m-maxPairs, 0)}
	return appendPairs(out, start, start, start+n-cut[0], start+m-cut[1]), cut
}

// appendMatches matches the last n and m elements of two lists, from start on.
func appendMatches(out []pair, start, n, m int, same func(i, j int) bool) []pair {
	long := make([][]int, n+1) // lengths of the common subsequences from i, j on
	for i := n; i >= 0; i-- {
		long[i] = make([]int, m+1)
		for j := m - 1; j >= 0 && i < n; j-- {
			if same(start+i, start+j) {
				long[i][j] = long[i+1][j+1] + 1
			} else {
				long[i][j] = max(long[i+1][j], long[i][j+1])
			}
		}
	}
	i, j := start, start
	for x, y := 0, 0; ; {
		switch {
		case x == n || y == m:
			return appendPairs(out, i, j, start+n, start+m)
		case same(start+x, start+y):
			out = appendPairs(out, i, j, start+x, start+y)
			out = append(out, pair{start + x, start + y})
			x, y = x+1, y+1
			i, j = start+x, start+y
		case long[x+1][y] >= long[x][y+1]:
			x++
		default:
			y++
		}
	}
}

// appendPairs pairs the elements from i to toA of one list with those from j to toB
// of the other by position.
func appendPairs(out []pair, i, j, toA, toB int) []pair {
	for ; i < toA || j < toB; i, j = min(i+1, toA), min(j+1, toB) {
		p := pair{-1, -1}
		if i < toA {
			p.a = i
		}
		if j < toB {
			p.b = j
		}
		out = append(out, p)
	}
	return out
}

// cut reports the elements that align left out of two lists of n and m elements.
func (p part) cut(cut [2]int, n, m int) error {
	if cut == [2]int{} {
		return nil
	}
	last := func(cut, n int) string {
		if cut == 0 {
			return ""
		}
		return fmt.Sprintf("the last %d of %d", cut, n)
	}
	return p.emit("too many to compare", last(cut[0], n), last(cut[1], m))
}
