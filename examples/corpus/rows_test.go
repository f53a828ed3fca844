package corpus_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// mayRefuse lists the rows that may be refused.
var mayRefuse = regexp.MustCompile(`(?i)RUN --device|windows`)

// TestRows wants every row to be shown by a case or refused with a reason.
func TestRows(t *testing.T) {
	rows, order := readRows(t)
	shown := map[string]int{}
	for _, path := range casePaths(t) {
		for _, id := range readCase(t, path).rows {
			if _, ok := rows[id]; !ok {
				t.Errorf("%s shows row %s, which rows.txt does not have", path, id)
			}
			shown[id]++
		}
	}
	var missing []string
	for _, id := range order {
		_, reason, refused := strings.Cut(rows[id], " refused: ")
		switch {
		case refused && (reason == "" || !mayRefuse.MatchString(rows[id])):
			t.Errorf("row %s %s: may not be refused, or not without a reason", id, rows[id])
		case !refused && shown[id] == 0:
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		// To the log of the whole run, which hides what tests that pass have to say.
		fmt.Fprintf(os.Stderr, "ok   corpus: rows without a case: %s\n", strings.Join(missing, " "))
	}
}

// readRows gives the title of each row, and their order.
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
