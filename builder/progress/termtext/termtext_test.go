package termtext

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestSafe(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\tb\nc":             "a\tb\nc",
		"\x1b[2J\x07\r":       "\ufffd[2J\ufffd\ufffd",
		"\u009b1m del\x7f":    "\ufffd1m del\ufffd",
		"世界 \xff":             "世界 \ufffd",
		"zero\x00width\u200b": "zero\ufffdwidth\u200b",
	} {
		if got := Safe(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	if got, want := Line("a\tb\nc\x1b[1m\u009b\x7fd"), "a b c [1m  d"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		n    int
		mark string
		want string
	}{{"abc", 3, "…", "abc"}, {"abcd", 3, "…", "abc…"}, {"abcd", 3, "", "abc"}, {"a世界", 5, "", "a世"}, {"a世界", 0, "…", "…"}} {
		if got := Truncate(c.in, c.n, c.mark); got != c.want {
			t.Errorf("%q to %d bytes: got %q, want %q", c.in, c.n, got, c.want)
		}
	}
}

func TestRendered(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                          "plain",
		"\x1b[1;31mred\x1b[0m text":      "red text",
		"10%\r50%\r100%":                 "100%",
		"line\r":                         "line",
		"a\tb":                           "a       b",
		"\x1b]0;title\a x":               " x",
		"\x1b]8;;http://x\x1b\\link":     "link",
		"bell\a back\b null\x00 del\x7f": "bell back null del",
		"\xff\xfe":                       "\ufffd\ufffd",
		"世界":                             "世界",
		"cut \x1b":                       "cut ",
		"cut \x1b[31":                    "cut ",
		"c1 \u009b31m":                   "c1 31m",
	} {
		if got := Rendered(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcdefghijk", 10, "abcdefg..."}, {"abcdef", 4, "abcd"}, {"世界世界世界", 9, "世界世..."}, {"x", 0, ""}} {
		if got := Fit(c.in, c.n); got != c.want {
			t.Errorf("%q to %d columns: %q, want %q", c.in, c.n, got, c.want)
		}
	}
}

func FuzzRendered(f *testing.F) {
	f.Add("\x1b[1;31mred\x1b[0m\ttext\r\n", 10)
	f.Fuzz(func(t *testing.T, s string, n int) {
		p := Rendered(s)
		if strings.ContainsAny(p, "\x00\x1b\r\n\t\a\b\x7f") {
			t.Errorf("%q became %q", s, p)
		}
		if n >= 0 && n < 1000 {
			if got := Fit(p, n); Width(got) > n {
				t.Errorf("%q cut to %d columns is %q", p, n, got)
			}
		}
	})
}

func FuzzSafe(f *testing.F) {
	f.Add("\x1b[1;31mred\x1b[0m\ttext\r\n\u009b", 10)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if got := Safe(s); strings.ContainsFunc(got, func(r rune) bool { return r != '\t' && r != '\n' && unicode.IsControl(r) }) {
			t.Errorf("%q became %q", s, got)
		}
		line := Line(s)
		if strings.ContainsFunc(line, unicode.IsControl) {
			t.Errorf("%q became %q", s, line)
		}
		if n >= 0 {
			if got := Truncate(line, n, ""); len(got) > n || !utf8.ValidString(got) {
				t.Errorf("%q cut to %d bytes is %q", line, n, got)
			}
		}
	})
}
