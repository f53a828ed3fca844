package markdown

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWrapped(t *testing.T) {
	t.Parallel()
	bold := string(boldOn) + "bold" + string(boldOff)
	for _, test := range []struct {
		text string
		max  int
		want []string
	}{
		{"", 10, []string{""}},
		{"  one  two ", 10, []string{"one two"}},
		{"one two", 7, []string{"one two"}},
		{"one two", 6, []string{"one", "two"}},
		{"a verylongword b", 5, []string{"a", "verylongword", "b"}},
		{"verylongword", 5, []string{"verylongword"}},
		{"äöü äöü", 7, []string{"äöü äöü"}},
		{bold + " a", 6, []string{bold + " a"}},
		{bold + " ab", 6, []string{bold, "ab"}},
		{"a b", 0, []string{"a", "b"}},
		{"a b", -3, []string{"a", "b"}},
	} {
		if got := wrapped(test.text, test.max); !slices.Equal(got, test.want) {
			t.Errorf("%q at %d: %q, want %q", test.text, test.max, got, test.want)
		}
	}
}

func TestWidth(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"": 0, "abc": 3, "äö…": 3, string(boldOn) + "a" + string(boldOff): 1, string(codeOn) + "a" + string(fixSpace) + "b" + string(codeOff): 3,
	} {
		if got := width(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestInline(t *testing.T) {
	t.Parallel()
	links := map[string]string{"a.md": "cairn help a", "same.md": "same"}
	for _, test := range []struct{ text, plain, styled string }{
		{"plain", "plain", "plain"},
		{"**a b** c", "a b c", "\x1b[1ma b\x1b[22m c"},
		{"`a`", "a", "\x1b[36ma\x1b[39m"},
		{"**`a`**", "a", "\x1b[1m\x1b[36ma\x1b[39m\x1b[22m"},
		{"2 * 3 ** 4", "2 * 3 ** 4", "2 * 3 ** 4"},
		{"[a](a.md)", "a (cairn help a)", "a (cairn help a)"},
		{"[a](a.md) and [b](b.md)", "a (cairn help a) and b", "a (cairn help a) and b"},
		{"[same](same.md)", "same", "same"},
		{"[`a`](a.md)", "a (cairn help a)", "\x1b[36ma\x1b[39m (cairn help a)"},
		{"[a] (b)", "[a] (b)", "[a] (b)"},
		{`a \| b`, "a | b", "a | b"},
		{"a\n`b", "a b", "a \x1b[36mb\x1b[39m"},
	} {
		o := Options{Width: 80, Link: func(target string) string { return links[target] }}
		if got := Render(test.text, o); got != test.plain+"\n" {
			t.Errorf("%s: %q, want %q", test.text, got, test.plain)
		}
		o.Styled = true
		if got := Render(test.text, o); got != test.styled+"\n" {
			t.Errorf("%s with styles: %q, want %q", test.text, got, test.styled)
		}
	}
	if got := Render("[a](a.md)", Options{Width: 80}); got != "a\n" {
		t.Errorf("a link without a function for it: %q", got)
	}
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"blank lines", "\n\n  \n", ""},
		{"two paragraphs", "a\nb\n\n\nc", "a b\n\nc\n"},
		{"headings", "# A\n## B `c`\ntext", "A\n\nB c\n\ntext\n"},
		{"a heading ends a paragraph", "a\n# B", "a\n\nB\n"},
		{"code ends a paragraph", "a\n```\nb\n```", "a\n\n    b\n"},
		{"a table ends a paragraph", "a\n| b |\n|---|\n| c |", "a\n\nb\nc\n"},
		{"a list ends a paragraph", "a\n- b", "a\n\n  - b\n"},
		{"code keeps its text", "```\n**a** `b` [c](d)\n\n<e>\n```", "    **a** `b` [c](d)\n\n    <e>\n"},
		{"code without an end", "```\na", "    a\n"},
		{"stars as bullets", "* a\n* b", "  * a\n  * b\n"},
		{"a list with blank lines", "- a\n\n- b\n\nc", "  - a\n  - b\n\nc\n"},
		{"long numbers", "9. a\n10. one two three four five", "  9. a\n  10. one two three\n      four five\n"},
		{"continuation of an item", "- one two three\n  four five six\n- b", "  - one two three\n    four five six\n  - b\n"},
		{"comments", "a <!-- b\nc -->\nd<!-- e -->f", "a df\n"},
		{"a rule below a table's head", "| a | b |\n|:--|--:|\n| c | d |", "a  b\nc  d\n"},
		{"a row with fewer cells", "| a | b |\n|---|---|\n| c |", "a  b\nc\n"},
		{"a row with more cells", "| a |\n|---|\n| c | d |", "a\nc  d\n"},
		{"an empty cell", "| a | b |\n|---|---|\n| c | |", "a  b\nc\n"},
		{"an empty first cell", "| | a |\n|---|---|\n| bcd | e |\n| | f |", "     a\nbcd  e\n     f\n"},
		{"a bar at the end", "| a | b |\n|---|---|\n| c | d \\| |", "a  b\nc  d |\n"},
		{"a row of dashes", "| a | b |\n|---|---|\n| c | d |\n| - | - |", "a  b\nc  d\n-  -\n"},
		{"rows without the last bar", "| a | b\n|---|---\n| c | d", "a  b\nc  d\n"},
		{"two tables", "| a |\n|---|\n\n| b |\n|---|", "a\n\nb\n"},
	} {
		if got := Render(test.text, Options{Width: 20}); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// The head of a table is bold, and padding ignores the marks of styles.
func TestTableStyles(t *testing.T) {
	t.Parallel()
	got := Render("| a | b |\n|---|---|\n| `long` | c |", Options{Width: 80, Styled: true})
	want := "\x1b[1ma\x1b[22m     \x1b[1mb\x1b[22m\n\x1b[36mlong\x1b[39m  c\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestColumnWidths(t *testing.T) {
	t.Parallel()
	cell := func(n int) string { return strings.Repeat("x", n) }
	for _, test := range []struct {
		rows [][]string
		max  int
		want []int
	}{
		{nil, 80, nil},
		{[][]string{{cell(3), cell(5)}, {cell(4), cell(2)}}, 80, []int{4, 5}},
		{[][]string{{cell(10), cell(20)}}, 32, []int{10, 20}},
		{[][]string{{cell(10), cell(20)}}, 30, []int{10, 18}},
		{[][]string{{cell(30), cell(20)}}, 42, []int{20, 20}},
		{[][]string{{cell(30), cell(20)}}, 32, []int{15, 15}},
		{[][]string{{cell(30), cell(20)}}, 10, []int{12, 12}},
		{[][]string{{cell(5), cell(40)}}, 1, []int{5, 12}},
		{[][]string{{cell(1)}, {cell(2), cell(3)}}, 80, []int{2, 3}},
	} {
		got := columnWidths(test.rows, test.max)
		if !slices.Equal(got, test.want) {
			t.Errorf("%q at %d: %d, want %d", test.rows, test.max, got, test.want)
		}
	}
}

// No line is too long at any width if the words are short enough.
func TestLinesFit(t *testing.T) {
	t.Parallel()
	const text = "# A title\n\nA paragraph with **bold words** and [a link](a.md) in it, long enough for two lines.\n\n" +
		"- an item of a list that goes on and on\n  in a second line\n- `code`\n\n" +
		"| key | value of some key |\n|---|---|\n| one | a cell that has to be wrapped at most widths |\n| two | a \\| b |\n"
	for w := 20; w <= 100; w++ {
		out := Render(text, Options{Width: w, Link: func(string) string { return "to" }})
		for line := range strings.Lines(out) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > w {
				t.Errorf("a line of %d characters at width %d: %q", n, w, line)
			}
			if strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
				t.Errorf("width %d: %q ends with a space", w, line)
			}
		}
		words := func(s string) string { return strings.Join(strings.Fields(strings.ReplaceAll(s, "-", "")), " ") }
		if got, want := words(out[:strings.Index(out, "key")]), "A title A paragraph with bold words and a link (to) in it, long enough for two lines. an item of a list that goes on and on in a second line code"; got != want {
			t.Errorf("width %d: %q, want %q", w, got, want)
		}
	}
}
