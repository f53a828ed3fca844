// Package termtext makes text from untrusted sources safe to print on a
// terminal: it removes or replaces control characters and escape sequences, and
// measures and cuts text in terminal columns.
package termtext

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Safe replaces the control characters in text with U+FFFD, except tabs and
// newlines.
func Safe(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && r != '\n' && unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// Line replaces each control character in text, also tabs and newlines, with a
// space.
func Line(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// Truncate returns the first n bytes of text, without an incomplete character at
// the end, and mark after them. Text of at most n bytes is returned unchanged.
func Truncate(text string, n int, mark string) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + mark
}

// Rendered returns a line of program output as a terminal would show it: without
// the part that a carriage return overwrites, with tabs as spaces, and without
// colours and other control sequences.
func Rendered(line string) string {
	line = strings.TrimRight(line, "\r")
	if i := strings.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	var b strings.Builder
	for len(line) > 0 {
		if line[0] == 0x1b {
			line = line[escapeLength(line):]
			continue
		}
		r, n := rune(line[0]), 1
		if r >= 0x80 {
			r, n = utf8.DecodeRuneInString(line)
		}
		switch {
		case r == '\t':
			b.WriteString(strings.Repeat(" ", 8-Width(b.String())%8))
		case unicode.IsControl(r):
		default:
			b.WriteRune(r)
		}
		line = line[n:]
	}
	return b.String()
}

// escapeLength returns the length of the escape sequence at the beginning of s.
func escapeLength(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	switch s[1] {
	case '[': // parameters, then a final letter
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return len(s)
	case ']': // a string, ended by BEL or ESC \
		i := strings.IndexAny(s[2:], "\a\x1b")
		switch {
		case i < 0:
			return len(s)
		case strings.HasPrefix(s[2+i:], "\x1b\\"):
			return i + 4
		}
		return i + 3
	}
	return 2
}

// Width returns the number of terminal columns of s, which must not contain
// control characters.
func Width(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1f64f, r >= 0x1f680 && r <= 0x1f6ff, r >= 0x1f900 && r <= 0x1f9ff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

// Fit cuts s to at most n columns. If n is 8 or more, a cut text ends with "...".
func Fit(s string, n int) string {
	if Width(s) <= n {
		return s
	}
	mark := ""
	if n >= 8 {
		mark = "..."
	}
	used := len(mark)
	for i, r := range s {
		if used += runeWidth(r); used > n {
			return s[:i] + mark
		}
	}
	return s
}
