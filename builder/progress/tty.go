package progress

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/progress/termtext"
	"golang.org/x/term"
)

// tty draws a live picture. Vertices that have ended scroll up as permanent lines.
// Below are the running vertices with the last lines of their output and a bar for
// each transfer, and a line with a summary.
//
// A frame is one write. It is drawn over the previous one, line by line, at most
// ten times a second, or once a second if only the times change. The cursor is
// hidden only within a frame, so that the terminal stays usable if the process is
// killed.
type tty struct {
	r      *Reporter
	size   func() (columns, rows int)
	color  bool
	start  time.Time
	live   []*Vertex
	past   []string // permanent lines, not drawn yet
	drawn  []int    // columns of each line of the last frame
	last   time.Time
	dirty  bool
	failed bool
	cut    bool // a vertex was canceled
}

const (
	frameTime = 100 * time.Millisecond
	idleTime  = time.Second
	maxTail   = 6 // lines of output of one vertex

	// These are legible on light and on dark backgrounds, unlike blue and yellow.
	faint   = "\x1b[2m"
	red     = "\x1b[1;31m"
	magenta = "\x1b[35m"
	reset   = "\x1b[0m"
)

// terminal is implemented by writers that know their size.
type terminal interface {
	Size() (columns, rows int)
}

func terminalOf(w io.Writer) func() (columns, rows int) {
	switch w := w.(type) {
	case terminal:
		return w.Size
	case *os.File:
		return func() (int, int) {
			columns, rows, err := term.GetSize(int(w.Fd()))
			if err != nil {
				return 0, 0
			}
			return columns, rows
		}
	}
	return func() (int, int) { return 0, 0 }
}

func newTTY(r *Reporter, size func() (int, int), color bool) *tty {
	return &tty{r: r, size: size, color: color, start: time.Now()}
}

func (t *tty) started(v *Vertex) {
	t.live = append(t.live, v)
	t.dirty = true
}

func (t *tty) reason(*Vertex) { t.dirty = true }

func (t *tty) log(*Vertex, int, []byte) { t.dirty = true }

func (t *tty) status(*Vertex, *status) { t.dirty = true }

func (t *tty) warn(v *Vertex, text string) {
	line := "WARN: " + oneLine(text)
	if v != nil {
		line = "=> " + v.name + ": " + line
	}
	t.keep(" "+line, "", magenta)
}

func (t *tty) ended(v *Vertex) {
	t.live = slices.DeleteFunc(t.live, func(w *Vertex) bool { return w == v })
	took := clock(v.elapsed(v.end))
	t.cut = t.cut || v.canceled()
	switch {
	case v.group.folds(v):
		t.dirty = true
	case v.canceled():
		t.keep(" => CANCELED "+v.name, took, magenta)
	case v.err != nil:
		t.failed = true
		t.keep(" => ERROR "+v.name, took, red)
	case v.cached:
		t.keep(" => CACHED "+v.name, took, faint)
	default:
		t.keep(" => "+v.name, v.because(took, t.columns()), "")
	}
}

// because puts the reason why the vertex was not cached before a text, in at most a third
// of the columns.
func (v *Vertex) because(text string, columns int) string {
	return strings.TrimSpace(termtext.Fit(v.reason, columns/3) + " " + text)
}

func (t *tty) columns() int {
	columns, _ := t.screen()
	return columns
}

// keep adds a permanent line to the next frame.
func (t *tty) keep(left, right, color string) {
	t.dirty = true
	columns, _ := t.screen()
	t.past = append(t.past, t.paint(color, justify(left, right, columns)))
}

// screen returns the size to draw in. The last column stays free because some
// terminals wrap after it.
func (t *tty) screen() (columns, rows int) {
	columns, rows = t.size()
	if columns <= 0 {
		columns = 80
	}
	if rows <= 0 {
		rows = 24
	}
	return max(columns-1, 10), rows
}

func (t *tty) paint(color, s string) string {
	if !t.color || color == "" {
		return s
	}
	return color + s + reset
}

// justify aligns right with the right edge and cuts left to the remaining columns.
func justify(left, right string, columns int) string {
	free := columns - termtext.Width(right) - 1
	if right == "" {
		return termtext.Fit(left, columns)
	}
	left = termtext.Fit(left, max(free, 0))
	return left + strings.Repeat(" ", max(free-termtext.Width(left), 0)+1) + right
}

func (t *tty) tick(now time.Time) time.Duration {
	wait := frameTime
	if !t.dirty {
		if len(t.live) == 0 {
			return 0
		}
		wait = idleTime
	}
	from := t.last
	if from.IsZero() {
		from = t.start // short builds are drawn only at the end
	}
	if left := wait - now.Sub(from); left > 0 {
		return left
	}
	t.frame(t.picture(now))
	t.last, t.dirty = now, false
	return t.tick(now)
}

func (t *tty) pause() {
	if len(t.past) > 0 || len(t.drawn) > 0 {
		t.frame(nil)
	}
	t.dirty = true
}

func (t *tty) closing() {
	now := time.Now()
	for _, v := range t.live {
		v.end, t.cut = now, true
		if v.group == nil {
			t.keep(" => CANCELED "+v.name, clock(v.elapsed(now)), magenta)
		}
	}
	for _, g := range t.r.groups {
		if g.end.IsZero() && !g.start.IsZero() {
			g.end = now
			var err error
			if slices.ContainsFunc(t.live, func(v *Vertex) bool { return v.group == g }) {
				err = context.Canceled
			}
			t.folded(g, err)
		}
	}
	t.live = nil
	if t.r.count == 0 && len(t.past) == 0 {
		return
	}
	word := "FINISHED"
	switch {
	case t.failed:
		word = "FAILED"
	case t.cut:
		word = "CANCELED"
	}
	t.frame([]line{{text: t.summary(now) + " " + word}})
}

// line is a line of the picture.
type line struct {
	text  string // without colour
	color string
}

func (t *tty) summary(now time.Time) string {
	text := fmt.Sprintf("[+] %s %s (%d/%d)", t.r.title, clock(now.Sub(t.start)), t.r.ended, t.r.known)
	switch {
	case t.r.starved == 1:
		text += ", 1 step waits for a processor (--jobs)"
	case t.r.starved > 1:
		text += fmt.Sprintf(", %d steps wait for a processor (--jobs)", t.r.starved)
	}
	return text
}

// frame draws lines over those of the previous frame, below new permanent lines.
func (t *tty) frame(lines []line) {
	columns, _ := t.screen()
	out := append(t.r.buf, "\x1b[?25l\x1b[?7l"...)
	if up := t.height(columns); up > 0 {
		out = fmt.Appendf(out, "\x1b[%dA", up)
	}
	out = append(out, '\r')
	for _, s := range t.past {
		out = append(append(out, s...), "\x1b[K\n"...)
	}
	t.past = t.past[:0]
	t.drawn = t.drawn[:0]
	for _, l := range lines {
		text := termtext.Fit(l.text, columns)
		out = append(append(out, t.paint(l.color, text)...), "\x1b[K\n"...)
		t.drawn = append(t.drawn, termtext.Width(text))
	}
	t.r.buf = append(out, "\x1b[J\x1b[?7h\x1b[?25h"...)
}

// height returns the number of rows of the previous frame. A terminal that became
// narrower has wrapped its lines.
func (t *tty) height(columns int) (rows int) {
	for _, n := range t.drawn {
		rows += max(1, (n+columns)/(columns+1))
	}
	return rows
}

// picture returns the lines for the running vertices. They fit on the screen.
func (t *tty) picture(now time.Time) (lines []line) {
	columns, rows := t.screen()
	free := rows - 2 // without the summary and the line of the cursor
	items := t.items()
	tails := t.tails(free - len(items))
	for i, one := range items {
		if len(lines)+1 >= free && i < len(items)-1 {
			lines = append(lines, line{text: fmt.Sprintf(" => ... and %d more", len(items)-i)})
			break
		}
		lines = append(lines, line{text: one.text(now, columns)})
		if one.vertex != nil {
			lines = append(lines, t.details(one.vertex, now, columns, tails[one.vertex])...)
		}
	}
	return append(lines, line{text: t.summary(now)})
}

// details returns the bars and the output of a vertex, in at most n lines.
func (t *tty) details(v *Vertex, now time.Time, columns, n int) (lines []line) {
	for _, s := range v.statuses {
		if s.end.IsZero() && len(lines) < n {
			lines = append(lines, line{text: bar(s, now, columns)})
		}
	}
	for _, text := range v.lastLines(min(n-len(lines), maxTail)) {
		lines = append(lines, line{text: " => => # " + termtext.Rendered(text), color: faint})
	}
	return lines
}

// tails distributes rows to the vertices with details, to those with the most recent
// output first.
func (t *tty) tails(left int) map[*Vertex]int {
	byTime := slices.Clone(t.live)
	slices.SortStableFunc(byTime, func(a, b *Vertex) int { return cmp.Compare(b.lastLog.UnixNano(), a.lastLog.UnixNano()) })
	out := map[*Vertex]int{}
	for _, v := range byTime {
		want := min(maxTail, len(v.lastLines(maxTail)))
		for _, s := range v.statuses {
			if s.end.IsZero() {
				want++
			}
		}
		out[v] = max(0, min(want, left))
		left -= out[v]
	}
	return out
}

// sum returns the bytes of several transfers together, "" of one.
func sum(all []*status) string {
	var current, total int64
	for _, s := range all {
		current, total = current+s.current, total+s.total
		if s.total == 0 {
			return ""
		}
	}
	if len(all) < 2 {
		return ""
	}
	return size(current) + " / " + size(total)
}

const barWidth = 24

// bar returns the line of a transfer: its name, progress and speed.
func bar(s *status, now time.Time, columns int) string {
	right := ""
	if s.current > 0 || s.total > 0 {
		right = size(s.current)
	}
	if s.total > 0 {
		right = gauge(s.current, s.total) + " " + right + " / " + size(s.total)
	}
	took := now.Sub(s.start)
	if took >= frameTime {
		right += rate(s.current, took)
	}
	if termtext.Width(right) > columns*3/4 {
		right = size(s.current)
	}
	return justify(" => => "+oneLine(s.id), strings.TrimSpace(right+" "+clock(took)), columns)
}

func gauge(current, total int64) string {
	n := int(float64(barWidth) * float64(min(max(current, 0), total)) / float64(total))
	return "[" + strings.Repeat("=", n) + strings.Repeat(" ", barWidth-n) + "]"
}
