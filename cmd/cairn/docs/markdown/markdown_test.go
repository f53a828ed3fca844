package markdown

import (
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	link := func(target string) string { return strings.TrimSuffix(target, ".md") }
	for _, test := range []struct{ name, text, want string }{
		{"paragraph", "one two\nthree four five six", "one two three four\nfive six\n"},
		{"heading", "# Title\n\nText", "Title\n\nText\n"},
		{"code", "Text:\n\n```sh\na   b\n\n  c\n```\nmore", "Text:\n\n    a   b\n\n      c\n\nmore\n"},
		{"list", "- one two three four\n  five\n- **six** `a b`\n", "  - one two three\n    four five\n  - six a b\n"},
		{"numbers", "1. one\n2. two\n\nend", "  1. one\n  2. two\n\nend\n"},
		{"nested", "- a\n  - b\n", "  - a\n    - b\n"},
		{"link", "see [this](that.md)", "see this (that)\n"},
		{"comment", "<!-- mark -->\ntext", "text\n"},
		{"code span is not split", "0123456789 `abc def ghi jkl`", "0123456789\nabc def ghi jkl\n"},
		{"table", "| a | bb |\n|---|---|\n| ccc | `d\\|e` |\n", "a    bb\nccc  d|e\n"},
		{"wide table", "| key | value |\n|---|---|\n| k | one two three four |\n", "key  value\nk    one two three\n     four\n"},
	} {
		if got := Render(test.text, Options{Width: 19, Link: link}); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestStyles(t *testing.T) {
	got := Render("# A\n\n**b** `c d`", Options{Width: 80, Styled: true})
	want := "\x1b[1mA\x1b[22m\n\n\x1b[1mb\x1b[22m \x1b[36mc d\x1b[39m\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
