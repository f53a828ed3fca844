package progress

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// size is a number of bytes for people, in decimal units as BuildKit's.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f /= 1000
		i++
	}
	if i == 0 {
		return strconv.FormatInt(n, 10) + "B"
	}
	return strconv.FormatFloat(f, 'f', 2, 64) + units[i]
}

// rate is " 1.23MB/s", or nothing where nothing has moved.
func rate(n int64, took time.Duration) string {
	if n <= 0 {
		return ""
	}
	return " " + size(int64(float64(n)/took.Seconds())) + "/s"
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// clock is the time that something takes: tenths of seconds first, then less.
func clock(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return seconds(d)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// width is how many columns a terminal needs for s, which has no control
// characters.
func width(s string) (n int) {
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

// fit cuts s to at most n columns, and marks the cut where there is room.
func fit(s string, n int) string {
	if width(s) <= n {
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

// Legible shows the control characters of a text that came from elsewhere, but tabs and
// ends of lines, as what they are not: commands to the terminal.
func Legible(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && r != '\n' && unicode.IsControl(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// printable makes one line of a step's output fit for a place on the screen:
// what a carriage return overwrote, colours, and other control sequences go.
func printable(line string) string {
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
			b.WriteString(strings.Repeat(" ", 8-width(b.String())%8))
		case unicode.IsControl(r):
		default:
			b.WriteRune(r)
		}
		line = line[n:]
	}
	return b.String()
}

// escapeLength is the length of the control sequence that s begins with.
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
