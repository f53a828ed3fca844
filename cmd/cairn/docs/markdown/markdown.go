// Package markdown renders the Markdown of Cairn's documentation for terminals.
//
// It knows headings, paragraphs, lists, fenced code, tables, bold text, code spans
// and links, each in the simple forms that the documentation uses.
package markdown

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// Private code points mark styles until lines are wrapped, since they have no width.
const (
	boldOn   = '\ue000'
	boldOff  = '\ue001'
	codeOn   = '\ue002'
	codeOff  = '\ue003'
	fixSpace = '\ue004' // a space at which lines are not wrapped
)

// Options are the properties of the output.
type Options struct {
	Width  int                             // of lines, in characters
	Styled bool                            // use the terminal's bold text and colour
	Link   func(target string) (to string) // text for the target of a link; "" to leave it out
}

// Render renders a text. Code and words that are too long exceed the width.
func Render(text string, o Options) string {
	r := &renderer{Options: o, lines: strings.Split(comment.ReplaceAllString(text, ""), "\n")}
	for r.next < len(r.lines) {
		r.block()
	}
	return r.styles().Replace(strings.TrimLeft(r.out.String(), "\n"))
}

var (
	comment = regexp.MustCompile(`(?s)<!--.*?-->\n?`)
	item    = regexp.MustCompile(`^( *)([-*]|\d+\.) +(.*)$`)
	bold    = regexp.MustCompile(`\*\*([^*]+)\*\*`)
	link    = regexp.MustCompile(`\[([^\]]+)\]\(([^)\s]+)\)`)
)

type renderer struct {
	Options
	lines []string
	next  int // line
	out   strings.Builder
}

func (r *renderer) styles() *strings.Replacer {
	if !r.Styled {
		return strings.NewReplacer(string(boldOn), "", string(boldOff), "", string(codeOn), "", string(codeOff), "", string(fixSpace), " ")
	}
	return strings.NewReplacer(string(boldOn), "\x1b[1m", string(boldOff), "\x1b[22m", string(codeOn), "\x1b[36m", string(codeOff), "\x1b[39m", string(fixSpace), " ")
}

// block renders the block that begins at the next line.
func (r *renderer) block() {
	line := r.lines[r.next]
	switch {
	case strings.TrimSpace(line) == "":
		r.next++
	case strings.HasPrefix(line, "```"):
		r.code()
	case strings.HasPrefix(line, "#"):
		r.next++
		r.heading(line)
	case strings.HasPrefix(line, "|"):
		r.table()
	case item.MatchString(line):
		r.list()
	default:
		r.out.WriteString("\n")
		r.wrap("", "", r.paragraph())
	}
}

func (r *renderer) heading(line string) {
	r.out.WriteString("\n" + string(boldOn) + r.inline(strings.TrimLeft(line, "# ")) + string(boldOff) + "\n")
}

// code copies fenced code with an indent.
func (r *renderer) code() {
	r.out.WriteString("\n")
	for r.next++; r.next < len(r.lines); r.next++ {
		line := r.lines[r.next]
		if strings.HasPrefix(line, "```") {
			r.next++
			return
		}
		r.out.WriteString(strings.TrimRight("    "+line, " ") + "\n")
	}
}

// paragraph returns the text of lines up to the next block.
func (r *renderer) paragraph() string {
	var text []string
	for ; r.next < len(r.lines); r.next++ {
		line := r.lines[r.next]
		if len(text) > 0 && (strings.TrimSpace(line) == "" || strings.HasPrefix(line, "```") || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "|") || item.MatchString(line)) {
			break
		}
		text = append(text, strings.TrimSpace(line))
	}
	return strings.Join(text, " ")
}

// list renders items with a hanging indent. Continuation lines belong to the item.
func (r *renderer) list() {
	r.out.WriteString("\n")
	for r.next < len(r.lines) {
		m := item.FindStringSubmatch(r.lines[r.next])
		if m == nil {
			return
		}
		r.lines[r.next] = m[3]
		first := "  " + m[1] + m[2] + " "
		r.wrap(first, strings.Repeat(" ", len(first)), r.paragraph())
		for r.next+1 < len(r.lines) && strings.TrimSpace(r.lines[r.next]) == "" && item.MatchString(r.lines[r.next+1]) {
			r.next++ // blank lines between items
		}
	}
}

// wrap writes text in lines of the width.
func (r *renderer) wrap(first, indent, text string) {
	prefix := first
	for _, line := range wrapped(r.inline(text), r.Width-width(first)) {
		r.out.WriteString(prefix + line + "\n")
		prefix = indent
	}
}

// inline replaces the marks of bold text, code and links.
func (r *renderer) inline(text string) string {
	var out strings.Builder
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			out.WriteString(string(codeOn) + strings.ReplaceAll(part, " ", string(fixSpace)) + string(codeOff))
		} else {
			out.WriteString(strings.ReplaceAll(part, `\|`, "|"))
		}
	}
	text = bold.ReplaceAllString(out.String(), string(boldOn)+"$1"+string(boldOff))
	return link.ReplaceAllStringFunc(text, func(s string) string {
		m := link.FindStringSubmatch(s)
		if r.Link != nil {
			if to := r.Link(m[2]); to != "" && to != m[1] {
				return m[1] + " (" + to + ")"
			}
		}
		return m[1]
	})
}

// width returns the number of characters that a text takes on a terminal.
func width(text string) int {
	n := utf8.RuneCountInString(text)
	for _, c := range text {
		if c >= boldOn && c <= codeOff {
			n--
		}
	}
	return n
}

// wrapped splits a text into lines of at most max characters.
func wrapped(text string, max int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case width(line)+1+width(word) > max:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
