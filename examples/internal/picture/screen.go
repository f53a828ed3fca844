package main

import (
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// screen is a terminal as far as Cairn uses one: lines, colours, the cursor moved up, and
// the rest of a line or of the screen erased.
type screen struct {
	columns int
	lines   [][]cell
	x, y    int
	style   style
}

type cell struct {
	r     rune
	style style
}

// style is a colour of the terminal: "", red or magenta, and bold or faint.
type style struct {
	color       string
	bold, faint bool
}

func newScreen(columns int) *screen { return &screen{columns: columns, lines: [][]cell{nil}} }

func (s *screen) write(text string) {
	for len(text) > 0 {
		if rest, ok := strings.CutPrefix(text, "\x1b["); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r >= '@' && r <= '~' })
			if end < 0 {
				return
			}
			s.control(rest[:end], rest[end])
			text = rest[end+1:]
			continue
		}
		r, size := utf8.DecodeRuneInString(text)
		text = text[size:]
		switch r {
		case '\n':
			s.y, s.x = s.y+1, 0
			for s.y >= len(s.lines) {
				s.lines = append(s.lines, nil)
			}
		case '\r':
			s.x = 0
		default:
			s.put(r)
		}
	}
}

func (s *screen) put(r rune) {
	if s.x >= s.columns {
		return
	}
	for len(s.lines[s.y]) <= s.x {
		s.lines[s.y] = append(s.lines[s.y], cell{r: ' '})
	}
	s.lines[s.y][s.x] = cell{r, s.style}
	s.x++
}

// control carries out a control sequence.
func (s *screen) control(parameters string, final byte) {
	switch final {
	case 'A':
		n, err := strconv.Atoi(parameters)
		if err != nil {
			n = 1
		}
		s.y = max(s.y-n, 0)
	case 'K':
		s.lines[s.y] = s.lines[s.y][:min(s.x, len(s.lines[s.y]))]
	case 'J':
		s.control("", 'K')
		s.lines = s.lines[:s.y+1]
	case 'm':
		for p := range strings.SplitSeq(parameters, ";") {
			switch p {
			case "", "0":
				s.style = style{}
			case "1":
				s.style.bold = true
			case "2":
				s.style.faint = true
			case "31":
				s.style.color = "red"
			case "35":
				s.style.color = "magenta"
			}
		}
	}
}

// theme is the colours of a picture.
type theme struct {
	name, back, edge, text, faint, red, magenta string
}

var themes = []theme{
	{"light", "#ffffff", "#d0d7de", "#1f2328", "#656d76", "#cf222e", "#8250df"},
	{"dark", "#0d1117", "#30363d", "#e6edf3", "#8d96a0", "#ff7b72", "#d2a8ff"},
}

// The sizes of a picture.
const (
	charWidth  = 8.4
	lineHeight = 19
	margin     = 18
)

// draw returns the screen as an SVG.
func (s *screen) draw(t theme) string {
	lines := slices.Clone(s.lines)
	for len(lines) > 0 && len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	width, height := float64(s.columns)*charWidth+2*margin, len(lines)*lineHeight+2*margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" role="img" aria-label="The terminal output of cairn build">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect x="0.5" y="0.5" width="%.0f" height="%d" rx="8" fill="%s" stroke="%s"/>`+"\n", width-1, height-1, t.back, t.edge)
	fmt.Fprintf(&b, `<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" fill="%s" xml:space="preserve">`+"\n", t.text)
	for i, line := range lines {
		for start := 0; start < len(line); {
			end := start + 1
			for end < len(line) && line[end].style == line[start].style {
				end++
			}
			b.WriteString(t.span(line[start:end], start, margin+lineHeight*i+14))
			start = end
		}
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

// span returns words of one style. Each word has a place of its own, so that columns stay
// aligned in any font.
func (t theme) span(cells []cell, column, y int) string {
	var b strings.Builder
	for start := 0; start < len(cells); {
		if cells[start].r == ' ' {
			start++
			continue
		}
		end := start
		var word []rune
		for end < len(cells) && (cells[end].r != ' ' || end+1 < len(cells) && cells[end+1].r != ' ') {
			word = append(word, cells[end].r)
			end++
		}
		style := cells[start].style
		attributes := ""
		switch {
		case style.color == "red":
			attributes = fmt.Sprintf(` fill="%s"`, t.red)
		case style.color == "magenta":
			attributes = fmt.Sprintf(` fill="%s"`, t.magenta)
		case style.faint:
			attributes = fmt.Sprintf(` fill="%s"`, t.faint)
		}
		if style.bold {
			attributes += ` font-weight="bold"`
		}
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" textLength="%.1f"%s>%s</text>`+"\n",
			margin+float64(column+start)*charWidth, y, float64(len(word))*charWidth, attributes, html.EscapeString(string(word)))
		start = end
	}
	return b.String()
}
