package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The drawing of the packages in ARCHITECTURE.md follows from their imports.
func TestDrawing(t *testing.T) {
	const begin, end = "<!-- packages -->\n", "<!-- /packages -->"
	name := filepath.Join(root, "ARCHITECTURE.md")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("ARCHITECTURE.md has no marks %q and %q", begin, end)
	}
	imports := map[string][]string{}
	for _, p := range list(t, "./...") {
		from, inside := strings.CutPrefix(p.ImportPath, module+"/")
		if !inside || within(from, "examples") || within(from, "cmd/policy") {
			continue
		}
		imports[from] = nil
		for _, path := range p.Imports {
			if to, inside := strings.CutPrefix(path, module+"/"); inside {
				imports[from] = append(imports[from], to)
			}
		}
	}
	want := before + begin + "```\n" + drawing(imports) + "```\n" + end + after
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Error("the drawing of the packages in ARCHITECTURE.md is stale: run go test ./cmd/policy -run TestDrawing -update")
	}
}

// drawing returns a line for each package, with the packages that it imports but
// those that another of its imports reaches too. A package comes after all its
// importers.
func drawing(imports map[string][]string) string {
	depth := map[string]int{}
	var measure func(p string) int
	measure = func(p string) int {
		if d, ok := depth[p]; ok {
			return d
		}
		d := 0
		for _, to := range imports[p] {
			d = max(d, measure(to)+1)
		}
		depth[p] = d
		return d
	}
	var names []string
	width := 0
	for p := range imports {
		measure(p)
		names = append(names, p)
		width = max(width, len(p))
	}
	slices.SortFunc(names, func(a, b string) int {
		if depth[a] != depth[b] {
			return depth[b] - depth[a]
		}
		return strings.Compare(a, b)
	})
	var b strings.Builder
	for i, p := range names {
		if i > 0 && depth[p] != depth[names[i-1]] {
			b.WriteString("\n")
		}
		line := fmt.Sprintf("%-*s", width, p)
		arrow := "  -> "
		for _, to := range reduced(imports, p) {
			if len(line)+len(arrow)+len(to) > 120 {
				b.WriteString(line + "\n")
				line = strings.Repeat(" ", width)
				arrow = "     "
			}
			line += arrow + to
			arrow = " "
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// reduced returns the imports of a package that no other import of it reaches.
func reduced(imports map[string][]string, p string) []string {
	var reaches func(from, to string) bool
	reaches = func(from, to string) bool {
		return slices.ContainsFunc(imports[from], func(next string) bool { return next == to || reaches(next, to) })
	}
	var list []string
	for _, to := range imports[p] {
		if !slices.ContainsFunc(imports[p], func(other string) bool { return reaches(other, to) }) {
			list = append(list, to)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func TestDrawingOfValues(t *testing.T) {
	got := drawing(map[string][]string{"a": {"b", "c"}, "b": {"c"}, "c": nil, "d": {"c"}})
	want := "a  -> b\n\nb  -> c\nd  -> c\n\nc\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
