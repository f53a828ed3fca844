package corpus_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mayRefuse lists the rows that may be refused.
var mayRefuse = regexp.MustCompile(`(?i)RUN --device|windows`)

// TestRows checks that cases name existing rows and that refusals have reasons.
func TestRows(t *testing.T) {
	rows, order := readRows(t)
	for _, path := range casePaths(t) {
		for _, id := range readCase(t, path).rows {
			if _, ok := rows[id]; !ok {
				t.Errorf("%s shows row %s, which rows.txt does not have", path, id)
			}
		}
	}
	for _, id := range order {
		_, reason, refused := strings.Cut(rows[id], " refused: ")
		if refused && (reason == "" || !mayRefuse.MatchString(rows[id])) {
			t.Errorf("row %s %s: may not be refused, or not without a reason", id, rows[id])
		}
	}
}

// TestEveryRowHasACase fails for a row without a case or a reason to refuse it.
func TestEveryRowHasACase(t *testing.T) {
	for _, id := range withoutCase() {
		t.Errorf("no case shows row %s", id)
	}
}

// withoutCase lists the rows without a case, except refused ones.
func withoutCase() (ids []string) {
	shown := map[string]bool{}
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range paths {
		text, _ := os.ReadFile(path)
		first, _, _ := strings.Cut(string(text), "\n")
		for _, id := range strings.Fields(strings.TrimPrefix(first, rowsPrefix)) {
			shown[id] = true
		}
	}
	text, _ := os.ReadFile("rows.txt")
	for line := range strings.Lines(string(text)) {
		id, title, _ := strings.Cut(strings.TrimSpace(line), " ")
		if id != "" && id != "#" && !shown[id] && !strings.Contains(title, " refused: ") {
			ids = append(ids, id)
		}
	}
	return ids
}

// readRows returns the title of each row, and the rows' order.
func readRows(t *testing.T) (titles map[string]string, order []string) {
	t.Helper()
	text, err := os.ReadFile("rows.txt")
	if err != nil {
		t.Fatal(err)
	}
	titles = map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		id, title, _ := strings.Cut(line, " ")
		if titles[id] != "" || title == "" {
			t.Errorf("rows.txt: row %s has no title, or two", id)
		}
		titles[id] = title
		order = append(order, id)
	}
	return titles, order
}
